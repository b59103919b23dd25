"""An event as the table has it (spec: events; the Events API writes it)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

SKEW_SECONDS = 5.0
"""Clocks of two machines differ by less than this."""


class Status(StrEnum):
    """How far an event has come."""

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
        payload: JSON text, which keeps every number's digits.
        metadata: JSON text, if it has any.
        created_at: ISO 8601 in UTC, as are all times that are texts.
        position: its place in the order of creation.
        attempts: how often it was posted in vain.
        version: grows with every change, whoever makes it.
        next_attempt_at: not to be posted before; None if it is not pending.
        first_failed_at: when it was first posted in vain, if it was.
        last_status: of the last answer, if there was one.
        last_error: why it was posted in vain the last time.
        lease_owner: worker that may post it.
        lease_until: until when, seconds since the epoch.
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
    lease_owner: str | None = None
    lease_until: float = 0.0

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
            payload=item["payload"]["S"],
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
            lease_owner=text("lease_owner"),
            lease_until=float(item["lease_until"]["N"]) if "lease_until" in item else 0.0,
        )

    def free_at(self) -> float:
        """From when on a worker may claim it, if it is pending: it is due, and nobody's lease holds."""
        due = seconds_of(self.next_attempt_at) if self.next_attempt_at else 0.0
        return max(due, self.lease_until + SKEW_SECONDS if self.lease_owner else 0.0)


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as all times are written, so that texts sort as times do."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_of(text: str) -> float:
    """Seconds since the epoch of a time that :func:`timestamp` wrote."""
    return datetime.fromisoformat(text).timestamp()
