"""The world of events: the delivery's tables, queue, endpoints and clock, and the events API's table and queue.

``EventStoreContract`` is run on the table in memory and on the emulator's: the fake is held to what DynamoDB does.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import count, repeat
from typing import Any

import pytest

from include.clients.http import Failure
from include.clients.webhooks import WebhookResponse
from include.delivery.dispatcher import Dispatcher
from include.delivery.event_table import EventTable
from include.delivery.ledger import Ledger
from include.delivery.models import Attempt
from include.delivery.report import DeadLetters, DeliveryCounts
from include.delivery.subscriptions import Subscriptions
from lambdas.events_api.errors import NoSuchEventError, QueueUnavailableError
from lambdas.events_api.models import Event, Status, random_id
from lambdas.events_api.store import INBOX, DeliveryQueue, EventStore, Listing, Query, event_of, item_of
from tests.worlds.call_details import FakeTime
from tests.worlds.dynamodb import (
    EVENT_INDEXES,
    EVENTS,
    SUBSCRIPTIONS,
    FakeEventTables,
    FakeTable,
    event_item,
    method_of,
)
from tests.worlds.sqs import QUEUE_URL, FakeSqs

ACCEPTED = WebhookResponse(200)
START = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


def refused(status: int | None = 503, *, retry_after: float | None = None) -> WebhookResponse:
    """A refusal with a status, or none."""
    return WebhookResponse(status, Failure(status, f"{status} refused", retryable=True, retry_after=retry_after))


def tried(response: WebhookResponse, at: float, *, seconds: float = 0.25) -> Attempt:
    """An attempt that ended at this time."""
    return Attempt(response, at, seconds)


class Inline(Executor):
    """Runs what it is given at once: tests see one order of steps."""

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done = Future[T]()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whoever asks for the result raises it
            done.set_exception(error)
        return done


class KilledError(Exception):
    """The worker is gone: it does nothing any more."""


@dataclass
class Life:
    """How long a worker lives: so many steps outside itself, each a call of AWS or a post.

    Args:
        steps: after the last one it is killed; None = it is not.
        in_effect: the last step still takes place.
        on_step: called before each step, with its number from 1.
    """

    steps: int | None = None
    in_effect: bool = True
    on_step: Callable[[int], None] = lambda number: None
    taken: int = 0

    def take[T](self, step: Callable[[], T]) -> T:
        """Take a step, or die."""
        self.taken += 1
        left = None if self.steps is None else self.steps - self.taken
        if left is not None and (left < 0 or (left == 0 and not self.in_effect)):
            raise KilledError
        self.on_step(self.taken)
        result = step()
        if left == 0:
            raise KilledError
        return result


class _Mortal:
    """A client of AWS in the hands of a worker that may be killed."""

    def __init__(self, client: object, life: Life) -> None:
        self._client = client
        self._life = life

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        return lambda **request: self._life.take(lambda: call(**request))


@dataclass(frozen=True)
class Arrival:
    """A post as it arrived."""

    url: str
    event_id: str
    at: float


@dataclass
class DeliveryWorld:
    """Set it up by changing its parts, deliver, look at them afterwards.

    Events are stored without a status of their own, as the API does for owners who have a lane, unless ``by_lane`` is
    off; every third one's payload is in an item of its own. ``answer`` says what a receiver answers to a post; it may
    take its (fake) time.
    """

    tables: FakeEventTables = field(default_factory=FakeEventTables)
    sqs: FakeSqs = field(default_factory=FakeSqs)
    time: FakeTime = field(default_factory=lambda: FakeTime(START))
    arrivals: list[Arrival] = field(default_factory=list)
    answer: Callable[[Arrival], WebhookResponse] = lambda arrival: ACCEPTED
    latency: Callable[[Arrival], float] = lambda arrival: 0.0
    max_attempts: int = 11
    concurrency: int = 8
    seconds: float = 300.0
    by_lane: bool = True
    open: int = 0
    most_open: int = 0
    under_way: int = 0
    most_under_way: int = 0

    def add(self, count: int, owner: str = "acme", *, first: int = 1, **changes: Any) -> None:
        """Store so many events of an owner, created a millisecond apart some time ago, and its subscription."""
        numbers = range(first, first + count)
        items = [event_item(n, owner, created=START - 60 + n / 1000, **changes) for n in numbers]
        if self.by_lane and not {"status", "next_attempt_at"} & set(changes):
            for item in items:
                del item["owner_status"], item["next_attempt_at"]
            self.tables.add_lane(owner, count, created=START - 60 + first / 1000)
            for item in items[2::3]:
                key = {"S": f"payload#{item['event_id']['S']}"}
                self.tables.items[key["S"]] = {"event_id": key, "payload": item.pop("payload")}
                item |= {"payload_key": key, "payload_bytes": {"N": "200000"}}
        self.tables.add(*items)
        self.tables.subscribe(owner, f"https://{owner}.test/hook")

    @property
    def events(self) -> EventTable:
        """The table of events."""
        return EventTable(self.tables, EVENTS, sleep=self.pass_time)

    @property
    def subscriptions(self) -> Subscriptions:
        """The table of subscriptions."""
        return Subscriptions(self.tables, SUBSCRIPTIONS, sleep=self.pass_time)

    def dispatcher(self, life: Life | None = None, *, clock_ahead: float = 0.0) -> Dispatcher:
        """A worker, whose clock may be ahead of the others'."""
        life = life or Life()
        tables = _Mortal(self.tables, life)

        async def calls(operation: str, **request: Any) -> Any:
            return method_of(tables, operation)(**request)

        return Dispatcher(
            events=EventTable(tables, EVENTS, sleep=self.pass_time),
            open_ledger=lambda: nullcontext(Ledger(calls, EVENTS)),
            subscriptions=Subscriptions(tables, SUBSCRIPTIONS, sleep=self.pass_time),
            dead_letters=DeadLetters(_Mortal(self.sqs, life), QUEUE_URL),
            open_endpoint=lambda url: _FakeEndpoint(self, url, life),
            concurrency=self.concurrency,
            max_attempts=self.max_attempts,
            seconds=self.seconds,
            clock=lambda: self.time() + clock_ahead,
            sleep=self.time.sleep,
            open_threads=lambda number: Inline(),
        )

    def deliver(self, *owners: str) -> DeliveryCounts:
        """What one worker does."""
        return asyncio.run(self.dispatcher().deliver(owners or ("acme",)))

    def deliver_at_once(
        self, *dispatchers: Dispatcher, owners: Sequence[str] = ("acme",)
    ) -> list[DeliveryCounts | BaseException]:
        """What several workers do with the same share, all beginning at the same time; how those ended that did not."""

        async def all_of_them() -> list[DeliveryCounts | BaseException]:
            deliveries = (dispatcher.deliver(owners) for dispatcher in dispatchers)
            return await asyncio.gather(*deliveries, return_exceptions=True)

        return asyncio.run(all_of_them())

    def arrived(self, owner: str = "acme") -> list[int]:
        """Numbers of the events that arrived at an owner's webhook, in that order."""
        return [int(each.event_id[4:]) for each in self.arrivals if each.url == f"https://{owner}.test/hook"]

    def dead(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.sqs.bodies]

    def pass_time(self, seconds: float) -> None:
        self.time.now += seconds


class _FakeEndpoint:
    def __init__(self, world: DeliveryWorld, url: str, life: Life) -> None:
        self._world = world
        self._url = url
        self._life = life
        self._connected = False

    async def post(self, body: bytes, headers: Mapping[str, str]) -> WebhookResponse:
        posted = json.loads(body)
        assert posted["id"] == headers["Webhook-Id"]
        assert posted["payload"]
        world = self._world
        world.open += not self._connected
        self._connected = True
        arrival = self._life.take(lambda: self._arrive(headers["Webhook-Id"]))
        world.under_way += 1
        world.most_open = max(world.open, world.most_open)
        world.most_under_way = max(world.under_way, world.most_under_way)
        try:
            await world.time.sleep(world.latency(arrival))
            return world.answer(arrival)
        finally:
            world.under_way -= 1

    def _arrive(self, event_id: str) -> Arrival:
        arrival = Arrival(self._url, event_id, self._world.time())
        self._world.arrivals.append(arrival)
        return arrival

    async def close(self) -> None:
        self._world.open -= self._connected
        self._connected = False


class MemoryEvents(EventStore):
    """The events API's store on a table in memory."""

    def __init__(self) -> None:
        self.table = FakeTable("events", "event_id", indexes=EVENT_INDEXES)
        super().__init__(self.table, "events")

    @property
    def events(self) -> dict[str, Event]:
        return {key: event_of(item) for key, item in self.table.items.items() if key.startswith("evt_")}

    def change(self, event_id: str, **changes: Any) -> None:
        """Change an event by other means than the API's."""
        self.table.items[event_id] = item_of(replace(self.events[event_id], **changes))

    def fail(self, error: Exception) -> None:
        """Let every call of the table raise this."""
        self.table.faults = repeat(error)


class MemoryQueue(DeliveryQueue):
    def __init__(self) -> None:
        super().__init__(None, QUEUE_URL)
        self.woken: list[str] = []
        self.failure: QueueUnavailableError | None = None

    def wake(self, event_id: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.woken.append(event_id)


AT_ONCE = 8
NEWEST_FIRST = Listing(None, newest_first=True)
LATER = "2026-03-02T10:00:00.000Z"
ATTEMPTS = '[{"time":"2026-03-02T10:00:00.000Z","status":500,"milliseconds":12,"cause":"500"}]'

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

    def test_large_event_is_kept_and_listed_like_any_other(self, store: EventStore, owner: str) -> None:
        text = json.dumps({"note": 2000 * "ż"}, ensure_ascii=False)
        first, second, third = events = [new_event(owner, payload=text, metadata='{"n":1.50}') for _ in range(3)]
        for event in events:
            assert store.put(event) is None
        assert [store.get(owner, event.event_id) for event in events] == events
        assert list(walk(store, owner, INBOX, 2)) == events
        there = store.put(new_event(owner, event_id=first.event_id, payload=text))
        assert (there.event_id, there.created_at) == (first.event_id, first.created_at)
        store.acknowledge(owner, second.event_id, LATER)
        store.replay(owner, second.event_id, LATER)
        store.delete(owner, third.event_id)
        assert [(event.payload, event.metadata) for event in walk(store, owner, INBOX, 9)] == 2 * [(text, '{"n":1.50}')]

    def test_id_is_given_once(self, store: EventStore, owner: str) -> None:
        first = new_event(owner)
        assert store.put(first) is None
        for other in (first, new_event(owner)):
            assert store.put(replace(other, event_id=first.event_id)) == first
        taken = store.put(new_event("somebody-else", event_id=first.event_id))
        assert (taken.event_id, taken.owner) == (first.event_id, owner)
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
            assert store.page(stranger + "#", Query(NEWEST_FIRST, None, 10)).events == []
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
        listed = store.page(owner, Query(Listing(Status.ACKNOWLEDGED, newest_first=True), None, 10))
        assert (listed.events, listed.last) == ([expected], None)
        assert store.page(owner, Query(INBOX, None, 10)).events == []

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
            attempts=ATTEMPTS,
            version=7,
        )
        store.put(tried)
        replayed = store.replay(owner, event.event_id, LATER)
        assert replayed == replace(event, next_attempt_at=LATER, attempts=ATTEMPTS, version=8)
        assert store.get(owner, event.event_id) == replayed
        assert store.page(owner, Query(INBOX, None, 10)).events == [replayed]

    def test_deleted_event_is_gone_and_its_id_free(self, store: EventStore, owner: str) -> None:
        event = new_event(owner)
        store.put(event)
        store.delete(owner, event.event_id)
        for action in (store.get, store.delete):
            with pytest.raises(NoSuchEventError):
                action(owner, event.event_id)
        assert store.page(owner, Query(NEWEST_FIRST, None, 10)).events == []
        assert store.put(event) is None

    def test_event_of_a_key_is_its_owner_s_first_one_that_is_there(self, store: EventStore, owner: str) -> None:
        events = [new_event(owner, idempotency_key="k") for _ in range(2)]
        others = new_event(owner, idempotency_key="other"), new_event(f"{owner}-2", idempotency_key="k")
        for event in (*reversed(events), *others, new_event(owner)):
            store.put(event)
        for event in events:
            assert store.of_key(owner, "k") == event
            store.delete(owner, event.event_id)
        assert store.of_key(owner, "k") is None
        assert store.of_key(f"{owner}-2", "k") == others[1]

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

    @pytest.mark.parametrize("limit", [1, 2, 5, 100])
    def test_pages_of_one_type_or_time_hold_those_events_only(self, store: EventStore, owner: str, limit: int) -> None:
        events = [new_event(owner, event_type=name) for name in "abcabbbbbbbca"]
        for event in events:
            store.put(event)
        newest = events[::-1]
        since, until = events[3].created_at, events[8].created_at
        for listing, expected in (
            (replace(NEWEST_FIRST, event_type="a"), [event for event in newest if event.event_type == "a"]),
            (replace(INBOX, event_type="c"), [event for event in events if event.event_type == "c"]),
            (replace(NEWEST_FIRST, event_type="none"), []),
            (replace(NEWEST_FIRST, since=since), newest[:10]),
            (replace(NEWEST_FIRST, until=until), newest[5:]),
            (replace(INBOX, since=since, until=until), events[3:8]),
            (replace(NEWEST_FIRST, since=since, until=until, event_type="b"), events[7:3:-1]),
            (replace(NEWEST_FIRST, since="2027-01-01T00:00:00.000Z"), []),
            (replace(NEWEST_FIRST, until="2025-01-01T00:00:00.000Z"), []),
        ):
            assert list(walk(store, owner, listing, limit)) == expected, listing

    def test_page_begins_behind_its_position_whatever_became_of_the_event(self, store: EventStore, owner: str) -> None:
        events = [new_event(owner) for _ in range(4)]
        for event in events:
            store.put(event)
        store.delete(owner, events[1].event_id)
        store.acknowledge(owner, events[2].event_id, LATER)
        assert store.page(owner, Query(INBOX, events[1].position, 10)).events == [events[3]]
        (oldest,) = store.page(owner, Query(NEWEST_FIRST, events[1].position, 10)).events
        assert oldest == events[0]


def walk(store: EventStore, owner: str, listing: Listing, limit: int) -> Iterable[Event]:
    """All events of a listing, page by page."""
    page = store.page(owner, Query(listing, None, limit))
    while True:
        assert len(page.events) <= limit
        yield from page.events
        if page.last is None:
            return
        page = store.page(owner, Query(listing, page.last, limit))


def at_once[T](action: Callable[[int], T], number: int = AT_ONCE) -> list[T]:
    """Do it in several threads that start together."""
    start = threading.Barrier(number)

    def one(index: int) -> T:
        start.wait()
        return action(index)

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(one, range(number)))
