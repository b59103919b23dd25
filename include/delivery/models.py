"""An event as the table has it (spec: events), and the changes that a worker makes to it.

Each change is made on condition that nobody else has changed the event since it was read. The events API writes the
same items; see ``lambdas/events_api/models.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from include.clients.webhooks import WebhookResponse
from include.errors import Backoff

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

SKEW_SECONDS = 5.0
"""Clocks of two machines differ by less than this."""

LONGEST_PAUSE_SECONDS = 3600.0
"""Between two attempts, before chance adds to it, unless the endpoint asks for more."""

LONGEST_ASKED_SECONDS = 86_400.0
"""Between two attempts, whatever the endpoint asks for."""

KEPT_ATTEMPTS = 10
"""The last attempts of an event that it keeps."""

_MAX_ERROR = 1000
_MAX_CAUSE = 200


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as all times are written, so that texts sort as times do."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_of(text: str) -> float:
    """Seconds since the epoch of a time that :func:`timestamp` wrote."""
    return datetime.fromisoformat(text).timestamp()


class Status(StrEnum):
    """State of an event."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    ACKNOWLEDGED = "acknowledged"
    """Its owner has read it, and does not want it posted any more."""


@dataclass(frozen=True)
class Event:
    """One event.

    Args:
        event_id: also the webhook's id, however often it is posted.
        payload: JSON text, which keeps every number's digits; empty if it is in an item of its own and was not read.
        metadata: JSON text, if it has any; it is where the payload is.
        created_at: ISO 8601 in UTC, as are all times that are texts.
        position: its place in the order of creation.
        attempts: posts since it was created or replayed.
        version: grows with every change, whoever makes it.
        next_attempt_at: not to be posted before; None if it is not pending.
        first_failed_at: time of the first failed attempt.
        last_status: HTTP status of the last attempt, if it was answered.
        last_error: why the last attempt failed.
        attempt_log: the last attempts, oldest first: JSON text of a list of objects with ``time``, ``status``,
            ``milliseconds`` and ``cause``, as the API shows them. A replay does not clear it.
        lease_owner: worker that may post it.
        lease_until: end of the lease, seconds since the epoch.
        has_status: whether its status holds whatever its owner's lane says: see :mod:`include.delivery.ledger`.
        payload_key: key of the payload's own item, if it has one and was not read.
        payload_bytes: size of that item's texts.
    """

    event_id: str
    owner: str
    event_type: str
    payload: str
    metadata: str | None
    status: Status
    created_at: str
    position: str
    attempts: int
    version: int
    next_attempt_at: str | None = None
    first_failed_at: str | None = None
    last_status: int | None = None
    last_error: str | None = None
    attempt_log: str | None = None
    lease_owner: str | None = None
    lease_until: float = 0.0
    has_status: bool = True
    payload_key: str | None = None
    payload_bytes: int = 0

    @classmethod
    def of(cls, item: Mapping[str, AttributeValueTypeDef]) -> Self:
        """The event of an item of the table."""

        def text(name: str) -> str | None:
            found: Any = item.get(name)
            return None if found is None else found["S"]

        return cls(
            event_id=item["event_id"]["S"],
            owner=item["owner"]["S"],
            event_type=item["event_type"]["S"],
            payload=text("payload") or "",
            metadata=text("metadata"),
            status=Status(item["status"]["S"]),
            created_at=item["created_at"]["S"],
            position=item["position"]["S"],
            attempts=int(item["delivery_attempts"]["N"]),
            version=int(item["version"]["N"]),
            next_attempt_at=text("next_attempt_at"),
            first_failed_at=text("first_failed_at"),
            last_status=int(item["last_status"]["N"]) if "N" in item.get("last_status", {}) else None,
            last_error=text("last_error"),
            attempt_log=text("attempts"),
            lease_owner=text("lease_owner"),
            lease_until=float(item["lease_until"]["N"]) if "lease_until" in item else 0.0,
            has_status="owner_status" in item,
            payload_key=text("payload_key"),
            payload_bytes=int(item["payload_bytes"]["N"]) if "payload_bytes" in item else 0,
        )

    def with_payload(self, item: Mapping[str, Any]) -> Self:
        """The event with what the payload's own item has."""
        metadata = item["metadata"]["S"] if "metadata" in item else None
        return replace(self, payload=item["payload"]["S"], metadata=metadata, payload_key=None)

    def free_at(self) -> float:
        """From when on a worker may claim a pending event: it is due, and no lease holds. Seconds since the epoch."""
        due = seconds_of(self.next_attempt_at) if self.next_attempt_at else 0.0
        return max(due, self.lease_until + SKEW_SECONDS if self.lease_owner else 0.0)


@dataclass(frozen=True)
class Attempt:
    """One post of an event, which ended at that time (seconds since the epoch) and took so many seconds."""

    response: WebhookResponse
    ended_at: float
    seconds: float

    @property
    def error(self) -> str:
        """Why it failed; empty if it was accepted."""
        return self.response.failure.error if self.response.failure else ""


@dataclass(frozen=True)
class Change:
    """A change that is made only of the version that was seen; every change makes a new version.

    Args:
        created_at: of the event: one that was deleted and posted anew has the same id, and the same versions again.
        seen: its version.
        sets: attributes with their new values.
        removes: attributes; all are there in the version that was seen.
    """

    event_id: str
    created_at: str
    seen: int
    sets: Mapping[str, str | int]
    removes: tuple[str, ...] = ()

    @classmethod
    def of(cls, event: Event, sets: Mapping[str, str | int], removes: tuple[str, ...] = ()) -> Self:
        """A change of an event as it was seen."""
        return cls(event.event_id, event.created_at, event.version, sets, removes)

    @property
    def written(self) -> Mapping[str, str | int]:
        """All attributes that it writes. An event that has them all has had this very change."""
        return {**self.sets, "version": self.seen + 1}


@dataclass(frozen=True)
class Conflict:
    """A change was not made because somebody else had changed the event; ``now`` is None if it is gone."""

    now: Event | None

    @property
    def pending(self) -> Event | None:
        """The event as it is, if it is still to be delivered."""
        return self.now if self.now is not None and self.now.status is Status.PENDING else None


def claim(event: Event, worker: str, until: int) -> tuple[Change, Event]:
    """Take an event that is pending, due and not leased, to post it: the change, and the event as it is then.

    No two workers have the same name. ``until`` is when the lease ends, seconds since the epoch.
    """
    sets: dict[str, str | int] = {"lease_owner": worker, "lease_until": until}
    if not event.has_status:
        sets |= {**_status(event, Status.PENDING), "next_attempt_at": event.created_at}
        event = replace(event, has_status=True, next_attempt_at=event.created_at)
    change = Change.of(event, sets)
    return change, replace(event, version=event.version + 1, lease_owner=worker, lease_until=float(until))


def release(event: Event) -> Change:
    """Give a claimed event back unposted, so that it need not wait for the end of the lease."""
    return Change.of(event, {}, _lease(event))


def delivered(event: Event, attempt: Attempt) -> Change:
    """An event was accepted: one that was claimed, or that was seen behind one that was."""
    sets = {
        **_status(event, Status.DELIVERED),
        **_counted(event, attempt),
        "last_status": attempt.response.status or 0,
        "delivered_at": timestamp(attempt.ended_at),
    }
    return Change.of(event, sets, (*_ends(event), *(("last_error",) if event.last_error else ())))


def failed(event: Event, attempt: Attempt) -> Change:
    """An event's last attempt failed; arguments as of :func:`delivered`."""
    sets = {
        **_status(event, Status.FAILED),
        **_counted(event, attempt),
        **_failure(event, attempt),
        "failed_at": timestamp(attempt.ended_at),
    }
    return Change.of(event, sets, _ends(event))


def retry(event: Event, attempt: Attempt) -> tuple[Change, float]:
    """An attempt failed and another is to follow; arguments as of :func:`delivered`.

    Returns the change, and the earliest time of the next attempt, seconds since the epoch.
    """
    failure = attempt.response.failure
    asked = failure.retry_after if failure else None
    pause = Backoff(longest=LONGEST_PAUSE_SECONDS).seconds(event.attempts + 1)
    at = attempt.ended_at + max(pause, min(asked or 0.0, LONGEST_ASKED_SECONDS))
    sets = {
        **({} if event.has_status else _status(event, Status.PENDING)),
        **_counted(event, attempt),
        **_failure(event, attempt),
        "next_attempt_at": timestamp(at),
    }
    return Change.of(event, sets, _lease(event)), at


def replay(event: Event, now: float) -> Change:
    """Make an event that failed pending again, as if it had never been tried; as the events API does it.

    ``now`` in seconds since the epoch.
    """
    sets: dict[str, str | int] = {
        **_status(event, Status.PENDING),
        "next_attempt_at": timestamp(now),
        "delivery_attempts": 0,
    }
    return Change.of(event, sets, ("last_status", "last_error", "first_failed_at", "failed_at", *_lease(event)))


def _status(event: Event, status: Status) -> dict[str, str | int]:
    return {"status": status.value, "owner_status": f"{event.owner}#{status}"}


def attempt_entry(ended_at: float, status: int, milliseconds: int) -> str:
    """The log of an event that was accepted at its first attempt; ``ended_at`` in seconds since the epoch."""
    began = timestamp(ended_at - milliseconds / 1000)
    entry = {"time": began, "status": status, "milliseconds": milliseconds, "cause": None}
    return json.dumps([entry], separators=(",", ":"))


def _counted(event: Event, attempt: Attempt) -> dict[str, str | int]:
    entry = {
        "time": timestamp(attempt.ended_at - attempt.seconds),
        "status": attempt.response.status,
        "milliseconds": round(attempt.seconds * 1000),
        "cause": attempt.error[:_MAX_CAUSE] or None,
    }
    earlier = json.loads(event.attempt_log) if event.attempt_log else []
    kept = [*earlier, entry][-KEPT_ATTEMPTS:]
    return {"delivery_attempts": event.attempts + 1, "attempts": json.dumps(kept, separators=(",", ":"))}


def _failure(event: Event, attempt: Attempt) -> dict[str, str | int]:
    status = attempt.response.status
    return {
        # A word if there was no answer: the attribute then says so, and does not keep an older status.
        "last_status": "no answer" if status is None else status,
        "last_error": attempt.error[:_MAX_ERROR],
        "first_failed_at": event.first_failed_at or timestamp(attempt.ended_at),
    }


def _ends(event: Event) -> tuple[str, ...]:
    return (*_lease(event), *(("next_attempt_at",) if event.next_attempt_at else ()))


def _lease(event: Event) -> tuple[str, ...]:
    return ("lease_owner", "lease_until") if event.lease_owner else ()
