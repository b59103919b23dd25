"""What every store of the events API does, in memory and on DynamoDB: the fake is held to what the real one does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from lambdas.events_api.errors import NoSuchEventError
from lambdas.events_api.models import Event, Status, random_id
from lambdas.events_api.store import INBOX, EventStore, Listing

AT_ONCE = 8
NEWEST_FIRST = Listing(None, newest_first=True)
LATER = "2026-03-02T10:00:00.000Z"

_MILLISECONDS = count()


def new_event(owner: str, **changes: Any) -> Event:
    """An event as it is posted, younger than those before."""
    at = f"2026-03-02T09:30:{next(_MILLISECONDS) / 1000:06.3f}Z"
    event = Event(
        event_id=random_id(),
        owner=owner,
        event_type="order.created",
        payload='{"total":12.50,"note":"Zażółć 🏭","none":null}',
        metadata=None,
        idempotency_key=None,
        status=Status.PENDING,
        created_at=at,
        next_attempt_at=at,
    )
    return replace(event, **changes)


class EventStoreContract:
    """Tests of a ``store``, which the class that inherits them makes; ``owner`` has no events in it."""

    @pytest.fixture
    def owner(self) -> str:
        return f"owner-{random_id()}"

    def test_event_is_kept_as_it_is(self, store: EventStore, owner: str) -> None:
        for event in (
            new_event(owner),
            new_event(owner, metadata='{"a":1e400}', idempotency_key="k"),
            new_event(
                owner,
                status=Status.FAILED,
                delivery_attempts=11,
                last_status=503,
                last_error="the receiver answered 503",
                first_failed_at=LATER,
                failed_at=LATER,
                next_attempt_at=None,
                version=12,
            ),
            new_event(owner, status=Status.DELIVERED, last_status="no answer", delivered_at=LATER),
        ):
            assert store.put(event) is None
            assert store.get(owner, event.event_id) == event

    def test_id_is_given_once(self, store: EventStore, owner: str) -> None:
        first = new_event(owner)
        assert store.put(first) is None
        for other in (first, new_event(owner), new_event("somebody-else")):
            assert store.put(replace(other, event_id=first.event_id)) == first
        assert store.get(owner, first.event_id) == first

    def test_of_several_at_once_one_is_kept_and_shown_to_the_others(self, store: EventStore, owner: str) -> None:
        event_id = random_id()
        answers = at_once(lambda _: store.put(new_event(owner, event_id=event_id)))
        kept = store.get(owner, event_id)
        assert answers.count(None) == 1
        assert [answer for answer in answers if answer] == [kept] * (AT_ONCE - 1)

    def test_nobody_gets_at_the_event_of_somebody_else(self, store: EventStore, owner: str) -> None:
        event = new_event(owner)
        store.put(event)
        for stranger, event_id in ((f"{owner}-2", event.event_id), (owner, random_id())):
            for action in (
                store.get,
                store.delete,
                lambda *names: store.acknowledge(*names, LATER),
                lambda *names: store.replay(*names, LATER),
            ):
                with pytest.raises(NoSuchEventError):
                    action(stranger, event_id)
            assert store.page(stranger + "#", NEWEST_FIRST, after=None, limit=10).events == []
        assert store.get(owner, event.event_id) == event

    def test_acknowledged_event_is_not_due_any_more_and_keeps_its_time(self, store: EventStore, owner: str) -> None:
        event = new_event(owner, delivery_attempts=3, last_status=500, last_error="500", first_failed_at=LATER)
        store.put(event)
        expected = replace(
            event, status=Status.ACKNOWLEDGED, acknowledged_at=LATER, next_attempt_at=None, version=event.version + 1
        )
        for at in (LATER, "2026-03-02T11:00:00.000Z"):
            store.acknowledge(owner, event.event_id, at)
            assert store.get(owner, event.event_id) == expected
        listed = store.page(owner, Listing(Status.ACKNOWLEDGED, newest_first=True), after=None, limit=10)
        assert (listed.events, listed.more) == ([expected], False)
        assert store.page(owner, INBOX, after=None, limit=10).events == []

    @pytest.mark.parametrize("status", list(Status))
    def test_replayed_event_is_as_new_in_its_old_place(self, store: EventStore, owner: str, status: Status) -> None:
        event = new_event(owner, idempotency_key="k", metadata="{}")
        tried = replace(
            event,
            status=status,
            delivery_attempts=11,
            last_status=500,
            last_error="500",
            first_failed_at=LATER,
            delivered_at=LATER,
            failed_at=LATER,
            acknowledged_at=LATER,
            version=7,
        )
        store.put(tried)
        replayed = store.replay(owner, event.event_id, LATER)
        assert replayed == replace(event, next_attempt_at=LATER, version=8)
        assert store.get(owner, event.event_id) == replayed
        assert store.page(owner, INBOX, after=None, limit=10).events == [replayed]

    def test_deleted_event_is_gone_and_its_id_free(self, store: EventStore, owner: str) -> None:
        event = new_event(owner)
        store.put(event)
        store.delete(owner, event.event_id)
        for action in (store.get, store.delete):
            with pytest.raises(NoSuchEventError):
                action(owner, event.event_id)
        assert store.page(owner, NEWEST_FIRST, after=None, limit=10).events == []
        assert store.put(event) is None

    @pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8, 100])
    def test_pages_hold_every_event_once_in_order(self, store: EventStore, owner: str, limit: int) -> None:
        events = [new_event(owner, status=status) for status in [*Status, Status.PENDING, Status.FAILED, *Status][:7]]
        for event in (*events, new_event(f"{owner}-2")):
            store.put(event)
        newest = events[::-1]
        pending = [event for event in events if event.status is Status.PENDING]
        assert list(walk(store, owner, NEWEST_FIRST, limit)) == newest
        assert list(walk(store, owner, INBOX, limit)) == pending
        assert list(walk(store, owner, Listing(Status.PENDING, newest_first=True), limit)) == pending[::-1]

    def test_page_begins_behind_its_position_whatever_became_of_the_event(self, store: EventStore, owner: str) -> None:
        events = [new_event(owner) for _ in range(4)]
        for event in events:
            store.put(event)
        store.delete(owner, events[1].event_id)
        store.acknowledge(owner, events[2].event_id, LATER)
        assert store.page(owner, INBOX, after=events[1].position, limit=10).events == [events[3]]
        (oldest,) = store.page(owner, NEWEST_FIRST, after=events[1].position, limit=10).events
        assert oldest == events[0]


def walk(store: EventStore, owner: str, listing: Listing, limit: int) -> Iterable[Event]:
    """All events of a listing, page by page."""
    after, more = None, True
    while more:
        page = store.page(owner, listing, after=after, limit=limit)
        assert len(page.events) <= limit
        yield from page.events
        more, after = page.more, page.events[-1].position if page.events else None


def at_once[T](action: Callable[[int], T], number: int = AT_ONCE) -> list[T]:
    """Do it in several threads that start together."""
    start = threading.Barrier(number)

    def one(index: int) -> T:
        start.wait()
        return action(index)

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(one, range(number)))
