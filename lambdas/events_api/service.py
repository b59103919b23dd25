"""What an owner can do with events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lambdas.common.aws import timestamp
from lambdas.events_api.errors import (
    EventIdTakenError,
    IdempotencyKeyReusedError,
    NoSuchEventError,
    QueueUnavailableError,
)
from lambdas.events_api.models import Event, NewEvent, Status, content_digest, id_for_key, is_event_id, random_id
from lambdas.events_api.requests import cursor_after
from lambdas.events_api.store import DeliveryQueue, EventStore, IdSecret, Query

_IDS = 3
"""Random ids that are tried. The first one is taken once in a million million times or so."""


@dataclass(frozen=True)
class Pending:
    """An event that was posted or replayed.

    Args:
        created: it is new; else it was there.
        not_woken: why the delivery was not woken, if it was not: then its timed run finds the event.
    """

    event: Event
    created: bool
    not_woken: str | None


@dataclass(frozen=True)
class Events:
    """Every method is about the events of one owner; ``clock`` gives the time in UTC.

    Those with an ``event_id`` raise NoSuchEventError if the owner has no such event, all raise StoreUnavailableError as
    the table does.
    """

    store: EventStore
    queue: DeliveryQueue
    secret: IdSecret
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC), kw_only=True)
    draw_id: Callable[[], str] = field(default=random_id, kw_only=True)

    def post(self, owner: str, new: NewEvent) -> Pending:
        """Store an event and have it delivered; or find the one that its idempotency key stands for.

        Raises:
            EventIdTakenError: no id was free.
            IdempotencyKeyReusedError: the idempotency key stands for an event with another content.
        """
        now, key = timestamp(self.clock()), new.idempotency_key
        digest = content_digest(new) if key else None
        ids: Iterator[str] = (self.draw_id() for _ in range(_IDS))
        if key:
            # The id of an event that was stored under another secret, or before there was one, does not tell its key.
            there = self.store.of_key(owner, key)
            if there is not None:
                return self._repeated(there, digest)
            ids = iter([id_for_key(owner, key, secret=self.secret.value())])
        for event_id in ids:
            event = Event(
                event_id=event_id,
                owner=owner,
                event_type=new.event_type,
                payload=new.payload,
                metadata=new.metadata,
                idempotency_key=key,
                status=Status.PENDING,
                created_at=now,
                next_attempt_at=now,
                content_digest=digest,
            )
            there = self.store.put(event)
            if there is None:
                return self._woken(event, created=True)
            if key and (there.owner, there.idempotency_key) == (owner, key):
                return self._repeated(there, digest)
        raise EventIdTakenError

    def get(self, owner: str, event_id: str) -> Event:
        """One event."""
        return self.store.get(owner, _checked(event_id))

    def page(self, owner: str, query: Query) -> tuple[list[Event], str | None]:
        """Some events, and the cursor of those that follow, if any do."""
        page = self.store.page(owner, query)
        return page.events, cursor_after(page.last, owner, query.listing) if page.last else None

    def acknowledge(self, owner: str, event_id: str) -> None:
        """Let an event be acknowledged: it leaves the inbox, and is not delivered any more."""
        self.store.acknowledge(owner, _checked(event_id), timestamp(self.clock()))

    def replay(self, owner: str, event_id: str) -> Pending:
        """Have an event delivered again, whatever its status; it keeps its place in the order."""
        event = self.store.replay(owner, _checked(event_id), timestamp(self.clock()))
        return self._woken(event, created=False)

    def delete(self, owner: str, event_id: str) -> None:
        """Delete an event."""
        self.store.delete(owner, _checked(event_id))

    def _repeated(self, there: Event, digest: str | None) -> Pending:
        if there.content_digest not in (None, digest):
            raise IdempotencyKeyReusedError
        # Woken again: the function may have died the first time between storing and waking.
        return self._woken(there, created=False)

    def _woken(self, event: Event, *, created: bool) -> Pending:
        not_woken = None
        if event.status is Status.PENDING:
            try:
                self.queue.wake(event.event_id)
            except QueueUnavailableError as error:
                not_woken = str(error)
        return Pending(event, created=created, not_woken=not_woken)


def _checked(event_id: str) -> str:
    """The id, if an event could have it: the table need not be read for others."""
    if not is_event_id(event_id):
        raise NoSuchEventError
    return event_id
