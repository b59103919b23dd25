"""The delivery on the emulator's tables and queue, with events as the events API stores them."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from include.clients.signed import SignedClient
from include.clients.webhooks import WebhookResponse
from include.delivery.dispatcher import Dispatcher
from include.delivery.due import select_due
from include.delivery.event_table import SETTLE_SECONDS, EventTable
from include.delivery.ledger import LaneLostError, Ledger, outcome
from include.delivery.models import Conflict, Event, Status, claim, delivered, failed, release, retry, timestamp
from include.delivery.report import DeadLetters, DeliveryCounts
from include.delivery.subscriptions import Subscriptions
from include.errors import AwsRefusedError
from lambdas.events_api.models import Status as ApiStatus
from lambdas.events_api.models import random_id
from lambdas.events_api.store import INBOX, EventStore, Listing
from lambdas.events_api.store import event_of as api_event_of
from tests.integration.conftest import Aws
from tests.integration.test_events_store import INDEXES, create_table
from tests.worlds.dynamodb import SECRET, event_item
from tests.worlds.events import ACCEPTED, NEWEST_FIRST, new_event, refused, tried, walk

EVENTS, SUBSCRIPTIONS = "events-to-deliver", "subscriptions-to-deliver"
AT_ONCE = 8
DELIVERED = Listing(ApiStatus.DELIVERED, newest_first=True)
OWNERS = (f"owner-{number}" for number in itertools.count())
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def tables(aws: Aws) -> Iterator[Aws]:
    create_table(aws.dynamodb, EVENTS, "event_id", indexes=INDEXES)
    create_table(aws.dynamodb, SUBSCRIPTIONS, "owner", {})
    yield aws
    for name in (EVENTS, SUBSCRIPTIONS):
        aws.dynamodb.delete_table(TableName=name)


@pytest.fixture(scope="module")
def queue_url(aws: Aws) -> Iterator[str]:
    url = aws.sqs.create_queue(QueueName="event-delivery-dlq-of-this-test")["QueueUrl"]
    yield url
    aws.sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def events(tables: Aws) -> EventTable:
    return EventTable(tables.dynamodb, EVENTS)


@pytest.fixture
def subscriptions(tables: Aws) -> Subscriptions:
    return Subscriptions(tables.dynamodb, SUBSCRIPTIONS, sleep=time.sleep)


def store(aws: Aws, count: int, *, active: bool = True, by_lane: bool = False, **changes: Any) -> str:
    """Events of a new owner that are a minute old, and its subscription."""
    owner, began = next(OWNERS), time.time() - 60
    if by_lane:
        asyncio.run(in_ledger(aws, lambda ledger: had_by_a_worker(ledger, owner)))
    for number in range(count):
        item = event_item(next(NUMBERS), owner, created=began + number / 1000, **changes)
        if by_lane:
            # Some are too large for the indexes.
            item["payload"] = {"S": json.dumps({"note": 3000 * (number % 3) * "x"})}
            assert EventStore(aws.dynamodb, EVENTS).put(api_event_of(item)) is None
        else:
            aws.dynamodb.put_item(TableName=EVENTS, Item=item)
    subscription = {"owner": {"S": owner}, "url": {"S": f"https://{owner}.test/"}, "secret": {"S": SECRET}}
    aws.dynamodb.put_item(TableName=SUBSCRIPTIONS, Item=subscription | {"active": {"BOOL": active}})
    return owner


def open_ledger(aws: Aws) -> AbstractAsyncContextManager[Ledger]:
    """As a task opens it."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Ledger]:
        async with SignedClient(aws.dynamodb, aws.session().get_credentials) as client:
            yield Ledger(client.call, EVENTS)

    return opened()


async def in_ledger[T](aws: Aws, act: Callable[[Ledger], Awaitable[T]]) -> T:
    async with open_ledger(aws) as ledger:
        return await act(ledger)


async def had_by_a_worker(ledger: Ledger, owner: str) -> None:
    now = time.time()
    lane = await ledger.take(owner, "earlier", now - 3600)
    await lane.release(now, oldest=None)


def current(aws: Aws, event: Event) -> dict[str, Any]:
    key = {"event_id": {"S": event.event_id}}
    return dict(aws.dynamodb.get_item(TableName=EVENTS, Key=key, ConsistentRead=True)["Item"])


def test_of_several_claimers_at_once_exactly_one_wins(tables: Aws, events: EventTable) -> None:
    (seen,) = events.pending(store(tables, 1), time.time())

    def attempt(number: int) -> Conflict | None:
        return events.change([claim(seen, f"worker-{number}", int(time.time()) + 60)[0]])[0]

    with ThreadPoolExecutor(AT_ONCE) as threads:
        results = list(threads.map(attempt, range(AT_ONCE)))
    assert results.count(None) == 1
    winner = f"worker-{results.index(None)}"
    assert {lost.now.lease_owner for lost in results if lost and lost.now} == {winner}


def test_a_claim_sent_twice_is_known_as_one_s_own(tables: Aws, events: EventTable) -> None:
    (seen,) = events.pending(store(tables, 1), time.time())
    mine, _ = claim(seen, "me", 9)
    assert events.change([mine]) == [None]
    assert events.change([mine]) == [None]


def test_an_event_that_was_deleted_and_posted_anew_is_another_one(tables: Aws, events: EventTable) -> None:
    (seen,) = events.pending(store(tables, 1), time.time())
    tables.dynamodb.put_item(
        TableName=EVENTS, Item=event_item(int(seen.event_id[4:]), seen.owner, created=time.time() - 9)
    )
    anew = current(tables, seen)
    assert events.change([claim(seen, "me", 9)[0]]) == [Conflict(Event.of(anew))]
    assert current(tables, seen) == anew


def test_every_outcome_leaves_an_event_that_the_api_can_read(tables: Aws, events: EventTable) -> None:
    owner, now = store(tables, 4), time.time()
    seen = events.pending(owner, now)
    claims = [claim(event, "me", int(now) + 60) for event in seen]
    assert events.change([change for change, _ in claims]) == [None] * 4
    first, second, third, fourth = (held for _, held in claims)
    again, at = retry(third, tried(refused(503), now))
    outcomes = [
        delivered(first, tried(WebhookResponse(204), now)),
        failed(second, tried(refused(None), now)),
        again,
        release(fourth),
    ]
    assert events.change(outcomes) == [None] * 4
    api = EventStore(tables.dynamodb, EVENTS)
    found = [api.get(owner, event.event_id) for event in seen]
    assert [event.status.value for event in found] == ["delivered", "failed", "pending", "pending"]
    assert [event.delivery_attempts for event in found] == [1, 1, 1, 0]
    assert [event.last_status for event in found] == [204, "no answer", 503, None]
    assert [bool(event.next_attempt_at) for event in found] == [False, False, True, True]
    assert not any("lease_owner" in current(tables, event) for event in seen)
    assert [event.event_id for event in events.pending(owner, now)] == [third.event_id, fourth.event_id]
    assert [event.event_id for event in events.failed(owner, now - 1)] == [second.event_id]
    assert events.pending(owner, now)[0].free_at() == pytest.approx(at, abs=0.002)


def test_an_outcome_does_not_undo_what_the_api_has_done(tables: Aws, events: EventTable) -> None:
    owner, now = store(tables, 3), time.time()
    api = EventStore(tables.dynamodb, EVENTS)
    seen = events.pending(owner, now)
    held = [claim(event, "me", int(now) + 60) for event in seen]
    events.change([change for change, _ in held])
    api.acknowledge(owner, seen[0].event_id, "2026-01-01T00:00:00.000Z")
    api.replay(owner, seen[1].event_id, "2026-01-01T00:00:00.000Z")
    api.delete(owner, seen[2].event_id)
    lost = events.change([delivered(event, tried(WebhookResponse(200), now)) for _, event in held])
    assert [each and each.now and each.now.status for each in lost] == [Status.ACKNOWLEDGED, Status.PENDING, None]
    assert [api.get(owner, event.event_id).status.value for event in seen[:2]] == ["acknowledged", "pending"]


def test_the_first_events_are_found_once_they_have_settled(tables: Aws, events: EventTable) -> None:
    owner = store(tables, 23)
    found = [event.position for event in events.pending(owner, time.time())]
    assert found == sorted(set(found))
    assert len(found) == 23
    assert [event.position for event in events.pending(owner, time.time(), limit=5)] == found[:5]
    assert events.pending(owner, time.time() - 60 - SETTLE_SECONDS) == []


def test_whoever_has_something_due_is_found(tables: Aws, events: EventTable, subscriptions: Subscriptions) -> None:
    wanted = {store(tables, 3), store(tables, 1)}
    others = {store(tables, 2, active=False), store(tables, 2, next_attempt_at="2999-01-01T00:00:00.000Z")}
    # Without reading what is due, every active owner is asked.
    for max_pages in (20, 0):
        due = select_due(events, subscriptions, now=time.time(), tasks=2, max_pages=max_pages)
        found = {owner for share in due.shares for owner in share}
        assert wanted <= found
        assert not others & found


def test_a_gone_webhook_is_turned_off_unless_it_was_replaced(tables: Aws, subscriptions: Subscriptions) -> None:
    owner = store(tables, 0)
    found = subscriptions.active([owner])[owner]
    replaced = {"owner": {"S": owner}, "url": {"S": "https://new.test/"}, "secret": {"S": SECRET}}
    tables.dynamodb.put_item(TableName=SUBSCRIPTIONS, Item=replaced | {"active": {"BOOL": True}})
    subscriptions.turn_off(found, "gone", time.time())
    assert owner in subscriptions.active([owner])
    subscriptions.turn_off(subscriptions.active([owner])[owner], "gone", time.time())
    assert subscriptions.active([owner]) == {}
    assert owner not in set(subscriptions.all_active())


class Memory:
    """A receiver that refuses some events, for as often as told."""

    def __init__(self, refusals: dict[str, int]) -> None:
        self.refusals = refusals
        self.arrivals: list[str] = []

    async def post(self, body: bytes, headers: dict[str, str]) -> WebhookResponse:
        assert json.loads(body)["payload"]
        self.arrivals.append(headers["Webhook-Id"])
        left = self.refusals.get(headers["Webhook-Id"], 0)
        self.refusals[headers["Webhook-Id"]] = left - 1
        return refused() if left > 0 else ACCEPTED

    async def close(self) -> None:
        """Nothing is open."""


OpenDispatcher = Callable[[Memory], Dispatcher]


@pytest.fixture
def dispatcher(tables: Aws, events: EventTable, subscriptions: Subscriptions, queue_url: str) -> OpenDispatcher:
    return lambda memory: Dispatcher(
        events=events,
        open_ledger=lambda: open_ledger(tables),
        subscriptions=subscriptions,
        dead_letters=DeadLetters(tables.sqs, queue_url),
        open_endpoint=lambda url: memory,
        concurrency=4,
        max_attempts=2,
    )


@pytest.mark.parametrize("by_lane", [True, False])
def test_dispatchers_at_once_deliver_everything_in_order(
    tables: Aws,
    events: EventTable,
    subscriptions: Subscriptions,
    queue_url: str,
    dispatcher: OpenDispatcher,
    by_lane: bool,
) -> None:
    owners = [store(tables, 30, by_lane=by_lane) for _ in range(5)]
    api = EventStore(tables.dynamodb, EVENTS)
    queues = {owner: [event.event_id for event in walk(api, owner, INBOX, 100)] for owner in owners}
    fails = queues[owners[0]][7]
    memory = Memory({fails: 99, queues[owners[1]][3]: 1})

    def work(number: int) -> DeliveryCounts:
        return asyncio.run(dispatcher(memory).deliver(owners))

    with ThreadPoolExecutor(2) as threads:
        parts = list(threads.map(work, range(2)))
    assert (sum(counts.delivered for counts in parts), sum(counts.failed for counts in parts)) == (149, 1)
    for queue in queues.values():
        arrived = dict.fromkeys(each for each in memory.arrivals if each in queue)
        assert list(arrived) == queue
    assert len(memory.arrivals) == 150 + 2, "each once, but for the two that were refused"
    for owner, queue in queues.items():
        listed = list(walk(api, owner, NEWEST_FIRST, 7))
        assert [event.event_id for event in listed] == queue[::-1]
        assert listed == [api.get(owner, event.event_id) for event in listed]
        assert all(event.delivered_at or event.event_id == fails for event in listed)
        assert list(walk(api, owner, INBOX, 7)) == []
        delivered_ids = [event.event_id for event in walk(api, owner, DELIVERED, 7)]
        assert delivered_ids == [event_id for event_id in queue[::-1] if event_id != fails]
    selected = {
        owner for share in select_due(events, subscriptions, now=time.time(), tasks=1).shares for owner in share
    }
    assert not selected & set(owners)
    message = tables.sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=1)["Messages"][0]
    # The next test would find it when it is visible again.
    tables.sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    letter = json.loads(message["Body"])
    assert (letter["event_id"], letter["owner"], letter["attempts"]) == (fails, owners[0], 2)


def test_a_lane_is_one_worker_s_and_whoever_lost_it_changes_nothing(tables: Aws) -> None:
    owner, now = store(tables, 2, by_lane=True), time.time()

    async def act(ledger: Ledger) -> None:
        first = await ledger.take(owner, "first", now)
        with pytest.raises(LaneLostError) as lost:
            await ledger.take(owner, "second", now)
        assert lost.value.until == pytest.approx(now + 60, abs=1)
        page = await ledger.untouched(owner, first.top, "9")
        first.note(outcome(page.events[0], now, 200, 0.1), now)
        second = await ledger.take(owner, "second", now + 70)
        with pytest.raises(LaneLostError):
            await first.write(now)
        second.note(outcome(page.events[1], now, 201, 0.1), now)
        await second.release(now, oldest=None)

    asyncio.run(in_ledger(tables, act))
    api = EventStore(tables.dynamodb, EVENTS)
    assert [event.last_status for event in walk(api, owner, NEWEST_FIRST, 10)] == [201, None]


def test_a_deployment_loses_nothing_in_either_order(
    tables: Aws, events: EventTable, dispatcher: OpenDispatcher
) -> None:
    """The API stores the old form for owners whose lane no delivery has had: both deliveries read it."""
    owner = store(tables, 1)
    api = EventStore(tables.dynamodb, EVENTS)
    new = replace(new_event(owner), created_at=timestamp(time.time() - 30), next_attempt_at=timestamp(time.time() - 30))
    assert api.put(new) is None
    old_form = [event.event_id for event in events.pending(owner, time.time())]
    assert old_form[-1] == new.event_id
    memory = Memory({})
    asyncio.run(dispatcher(memory).deliver([owner]))
    newer = replace(new, event_id=random_id(), created_at=timestamp(time.time() - 5))
    assert api.put(newer) is None
    assert events.pending(owner, time.time()) == [], "by now it is the lane's"
    asyncio.run(dispatcher(memory).deliver([owner]))
    assert memory.arrivals == [*old_form, newer.event_id]
    assert {event.status.value for event in walk(api, owner, NEWEST_FIRST, 10)} == {"delivered"}


def test_a_missing_table_is_a_refusal(tables: Aws) -> None:
    missing = EventTable(tables.dynamodb, "no-such-table")
    for ask in (lambda: list(missing.due(0)), lambda: missing.pending("acme", 0.0)):
        with pytest.raises(AwsRefusedError, match="ResourceNotFoundException"):
            ask()
    event = Event.of(event_item(1, created=0.0))
    with pytest.raises(AwsRefusedError, match="ResourceNotFound"):
        missing.change([claim(event, "me", 9)[0]])
