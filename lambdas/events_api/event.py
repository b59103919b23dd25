"""An event as the table keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Status(StrEnum):
    """Where an event stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    ACKNOWLEDGED = "acknowledged"


@dataclass(frozen=True)
class Event:
    """One event. Times are texts as :func:`timestamp` makes them.

    Args:
        owner: whose key posted it.
        payload: JSON text of an object.
        metadata: JSON text of an object, if it has any.
        idempotency_key: of its sender, if it has any.
        delivery_attempts: posts to the owner's webhook since it was posted or replayed last.
        next_attempt_at: not before then is it posted; only while it is pending.
        last_status: how the receiver answered the last post: an HTTP status, or a word if there was no answer.
        last_error: the same in more words.
        version: grows with every change, so that whoever works on an older state notices.
    """

    event_id: str
    owner: str
    event_type: str
    payload: str
    metadata: str | None
    idempotency_key: str | None
    status: Status
    created_at: str
    delivery_attempts: int = 0
    next_attempt_at: str | None = None
    last_status: int | str | None = None
    last_error: str | None = None
    first_failed_at: str | None = None
    delivered_at: str | None = None
    failed_at: str | None = None
    acknowledged_at: str | None = None
    version: int = 1

    @property
    def position(self) -> str:
        """Its place in the order of creation: no two events have the same."""
        return f"{self.created_at}#{self.event_id}"


def timestamp(moment: datetime) -> str:
    """A moment in UTC as all times are written: ISO 8601 with milliseconds, so that texts sort as times do."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
