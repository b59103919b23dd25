"""The events API's store and queue in memory."""

from __future__ import annotations

import threading
from dataclasses import replace

from lambdas.events_api.errors import NoSuchEventError, QueueUnavailableError, StoreUnavailableError
from lambdas.events_api.models import Event, Status
from lambdas.events_api.store import Listing, Page

INDEXES = {"by-owner": "owner", "by-owner-status": "owner_status"}
"""Indexes of the table of events that the API reads, with their partition keys."""


class MemoryEvents:
    """An EventStore whose writes are atomic. Every method raises ``failure``, if there is one."""

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}
        self.failure: StoreUnavailableError | Exception | None = None
        self._lock = threading.Lock()

    def put(self, event: Event) -> Event | None:
        self._fail()
        with self._lock:
            there = self.events.setdefault(event.event_id, event)
        return None if there is event else there

    def get(self, owner: str, event_id: str) -> Event:
        self._fail()
        event = self.events.get(event_id)
        if event is None or event.owner != owner:
            raise NoSuchEventError
        return event

    def page(self, owner: str, listing: Listing, *, after: str | None, limit: int) -> Page:
        self._fail()
        found = [event for event in self.events.values() if event.owner == owner]
        found = [event for event in found if listing.status in (None, event.status)]
        found.sort(key=lambda event: event.position, reverse=listing.newest_first)
        if after is not None:
            found = [event for event in found if (event.position < after) is listing.newest_first]
            found = [event for event in found if event.position != after]
        return Page(found[:limit], more=len(found) > limit)

    def acknowledge(self, owner: str, event_id: str, at: str) -> None:
        with self._lock:
            event = self.get(owner, event_id)
            if event.status is not Status.ACKNOWLEDGED:
                self.events[event_id] = replace(
                    event,
                    status=Status.ACKNOWLEDGED,
                    acknowledged_at=at,
                    next_attempt_at=None,
                    version=event.version + 1,
                )

    def replay(self, owner: str, event_id: str, at: str) -> Event:
        with self._lock:
            event = self.get(owner, event_id)
            self.events[event_id] = Event(
                event_id=event.event_id,
                owner=event.owner,
                event_type=event.event_type,
                payload=event.payload,
                metadata=event.metadata,
                idempotency_key=event.idempotency_key,
                status=Status.PENDING,
                created_at=event.created_at,
                next_attempt_at=at,
                version=event.version + 1,
            )
            return self.events[event_id]

    def delete(self, owner: str, event_id: str) -> None:
        with self._lock:
            self.get(owner, event_id)
            del self.events[event_id]

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class MemoryQueue:
    """A DeliveryQueue. It raises ``failure``, if there is one."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.failure: QueueUnavailableError | None = None

    def wake(self, event_id: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.woken.append(event_id)
