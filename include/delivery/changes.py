"""What a worker changes of an event, each change on condition that nobody else has changed it before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from include.clients.backoff import retry_delay
from include.clients.webhooks import Reply
from include.delivery.event import Event, Status, timestamp

LONGEST_PAUSE_SECONDS = 3600.0
"""Between two attempts, whatever the receiver asks for."""

_MAX_ERROR = 1000


@dataclass(frozen=True)
class Change:
    """A change that is made only of the version that was seen; every change makes a new version.

    Args:
        event_id: of the event.
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
        """All attributes that the event has by it: whoever finds them all there finds this very change."""
        return {**self.sets, "version": self.seen + 1}


@dataclass(frozen=True)
class Lost:
    """A change was not made, as somebody else had changed the event.

    Args:
        now: the event as it is; None if it is gone.
    """

    now: Event | None

    @property
    def pending(self) -> Event | None:
        """The event as it is, if it is still to be delivered."""
        return self.now if self.now is not None and self.now.status is Status.PENDING else None


def claim(event: Event, worker: str, until: int) -> tuple[Change, Event]:
    """Take an event, to post it.

    Args:
        event: pending, due, and not leased, as it was read.
        worker: who takes it; no two have the same name.
        until: when the lease ends, seconds since the epoch.

    Returns:
        the change, and the event as it is then.
    """
    change = Change.of(event, {"lease_owner": worker, "lease_until": until})
    return change, replace(event, version=event.version + 1, lease_owner=worker, lease_until=float(until))


def release(event: Event) -> Change:
    """Give a claimed event back unposted, so that nobody has to wait for the lease's end."""
    return Change.of(event, {}, _lease(event))


def delivered(event: Event, reply: Reply, now: float) -> Change:
    """An event was accepted.

    Args:
        event: as it was claimed, or was seen behind one that was.
        reply: the acceptance.
        now: seconds since the epoch.
    """
    sets = {**_ended(event, Status.DELIVERED), "last_status": reply.status or 0, "delivered_at": timestamp(now)}
    return Change.of(event, sets, (*_ends(event), *(("last_error",) if event.last_error else ())))


def failed(event: Event, reply: Reply, now: float) -> Change:
    """An event was refused for the last time; arguments as of :func:`delivered`."""
    sets = {**_ended(event, Status.FAILED), **_refusal(event, reply, now), "failed_at": timestamp(now)}
    return Change.of(event, sets, _ends(event))


def retry(event: Event, reply: Reply, now: float) -> tuple[Change, float]:
    """An event was refused and is to be posted again; arguments as of :func:`delivered`.

    Returns:
        the change, and from when on it may be posted, seconds since the epoch.
    """
    asked = reply.failure.retry_after if reply.failure else None
    at = now + retry_delay(event.attempts + 1, asked, longest=LONGEST_PAUSE_SECONDS)
    sets = {
        "delivery_attempts": event.attempts + 1,
        "next_attempt_at": timestamp(at),
        **_refusal(event, reply, now),
    }
    return Change.of(event, sets, _lease(event)), at


def _ended(event: Event, status: Status) -> dict[str, str | int]:
    return {
        "status": status.value,
        "owner_status": f"{event.owner}#{status}",
        "delivery_attempts": event.attempts + 1,
    }


def _ends(event: Event) -> tuple[str, ...]:
    return (*_lease(event), *(("next_attempt_at",) if event.next_attempt_at else ()))


def _lease(event: Event) -> tuple[str, ...]:
    return ("lease_owner", "lease_until") if event.lease_owner else ()


def _refusal(event: Event, reply: Reply, now: float) -> dict[str, str | int]:
    error = reply.failure.error if reply.failure else ""
    return {
        # A word where there was no answer: the attribute then says so, and does not keep an older status.
        "last_status": "no answer" if reply.status is None else reply.status,
        "last_error": error[:_MAX_ERROR],
        "first_failed_at": event.first_failed_at or timestamp(now),
    }
