"""The calls of DynamoDB that a lane is made of: repeated, cut short, and of events that are too young."""

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from include.clients.webhooks import WebhookResponse
from include.delivery.event_table import PAGE, SETTLE_SECONDS
from include.delivery.ledger import LOOK_SECONDS, LOST_SECONDS, MAX_ENTRIES, Entry, Lane, Ledger, entries_of
from include.delivery.models import timestamp
from include.delivery.owner_queue import UNWRITTEN_SECONDS
from include.errors import AwsUnavailableError
from tests.worlds.dynamodb import EVENTS, event_item
from tests.worlds.events import ACCEPTED, START, Arrival, DeliveryWorld, new_event


def ledger_of(world: DeliveryWorld) -> Ledger:
    return Ledger(world.tables.call, EVENTS)


def test_whatever_call_is_repeated_as_its_answer_got_lost_is_known_as_the_worker_s_own() -> None:
    world = DeliveryWorld(latency=lambda arrival: 0.1)
    world.add(3 * MAX_ENTRIES)

    async def twice(operation: str, **request: Any) -> Any:
        await world.tables.call(operation, **request)
        return await world.tables.call(operation, **request)

    dispatcher = replace(world.dispatcher(), open_ledger=lambda: nullcontext(Ledger(twice, EVENTS)))
    counts = asyncio.run(dispatcher.deliver(["acme"]))
    assert world.arrived() == list(range(1, 3 * MAX_ENTRIES + 1))
    assert (counts.delivered, counts.lost) == (3 * MAX_ENTRIES, 0)
    assert set(world.tables.statuses()) == {"delivered"}
    assert "next_attempt_at" not in world.tables.lane(), "nothing is left to do"


async def test_a_batch_keeps_what_was_added_to_it_whoever_writes_it_last() -> None:
    world = DeliveryWorld()
    entries = tuple(Entry(f"{timestamp(START + number)}#evt_{number:012d}") for number in range(5))
    for many in (3, 5, 3):
        await ledger_of(world).keep(Lane("acme", entries=entries[:many]))
    assert entries_of(world.tables.items["batch#1#acme"]) == entries


async def test_what_dynamodb_did_not_get_to_is_read_again_unless_it_gives_nothing_at_all() -> None:
    world = DeliveryWorld()
    world.add(9)
    ledger = ledger_of(world)
    events = (await ledger.untouched("acme", "", "9")).events
    world.tables.table.batch_size = 2
    assert [event.event_id for event in await ledger.with_payloads(events)] == [event.event_id for event in events]
    world.tables.table.batch_size = 0
    with pytest.raises(AwsUnavailableError, match="for none of the keys"):
        await ledger.with_payloads(events)


def test_an_owner_s_first_events_are_all_known_and_large_ones_that_follow_have_their_payload_apart() -> None:
    world = DeliveryWorld()
    world.tables.subscribe("acme", "https://acme.test/hook")

    def post(number: int, payload: str) -> None:
        at = timestamp(world.time())
        event = new_event("acme", event_id=f"evt_{number:012d}", created_at=at, next_attempt_at=at, payload=payload)
        world.tables.api.put(event)
        world.pass_time(10)

    post(1, "[1]")
    world.deliver()
    assert "next_attempt_at" not in world.tables.lane(), "nothing is left to look for"
    post(2, f'"{2000 * "x"}"')
    assert "payload_key" in world.tables.items["evt_000000000002"]
    world.deliver()
    assert world.arrived() == [1, 2]


@pytest.mark.parametrize("by_lane", [True, False])
def test_events_are_not_looked_at_while_an_older_one_may_be_missing_in_an_index(by_lane: bool) -> None:
    world = DeliveryWorld(by_lane=by_lane)
    world.add(1)
    # The page of the index ends in the middle of those that are too young.
    world.tables.page_size = 2
    for number in (2, 3):
        item = event_item(number, created=START - SETTLE_SECONDS + 0.1 * number)
        if by_lane:
            del item["owner_status"], item["next_attempt_at"]
            world.tables.add_lane("acme", 1, created=START)
        world.tables.add(item)
    world.deliver()
    assert world.arrived() == ([1, 2, 3] if by_lane else [1])
    world.pass_time(SETTLE_SECONDS)
    world.deliver()
    assert world.arrived() == [1, 2, 3]
    assert world.arrivals[1].at >= START + 0.2


@pytest.mark.parametrize("page_size", [1, 2, 3, 5, 7])
def test_events_arrive_in_order_whichever_index_ends_its_page_first(page_size: int) -> None:
    world = DeliveryWorld()
    world.add(30)
    world.tables.page_size = page_size
    for number in range(1, 31):
        if number % 9 in (1, 2, 3):
            world.tables.change(number, status="acknowledged", next_attempt_at=None)
        elif number % 2:
            world.tables.change(number, next_attempt_at=timestamp(START - 1))
    world.deliver()
    assert world.arrived() == [number for number in range(1, 31) if number % 9 not in (1, 2, 3)]


def test_what_is_replayed_takes_nothing_back_that_was_posted_since() -> None:
    world = DeliveryWorld()
    world.add(PAGE + 9)
    world.deliver()
    for number in range(1, PAGE + 4):
        world.tables.api.replay("acme", f"evt_{number:012d}", timestamp(world.time()))
    world.deliver()
    assert world.arrived() == [*range(1, PAGE + 10), *range(1, PAGE + 4)]


def test_payloads_of_many_small_events_are_read_in_calls_that_dynamodb_takes() -> None:
    world = DeliveryWorld()
    world.add(PAGE + 30)
    for number in range(1, PAGE + 31):
        key = {"S": f"payload#evt_{number:012d}"}
        world.tables.items[key["S"]] = {"event_id": key, "payload": {"S": "[1]"}}
        item = world.tables.items[f"evt_{number:012d}"]
        item |= {"payload_key": key, "payload_bytes": {"N": "2000"}}
        item.pop("payload", None)
        if number <= PAGE // 2:
            # In another index, and those that follow are a page of theirs: both are read.
            world.tables.change(number, next_attempt_at=timestamp(START - 1))
            world.tables.items["lane#acme"]["top"] = item["position"]
    world.deliver()
    assert world.arrived() == list(range(1, PAGE + 31))


async def test_of_many_batches_all_that_list_what_is_behind_the_marker_are_read() -> None:
    world = DeliveryWorld()
    accepted = (round(START * 1000), 200, 50)
    entries = [Entry(f"{timestamp(START + number)}#evt_{number:012d}", accepted) for number in range(50)]
    late = Entry(f"{timestamp(START + 0.5)}#evt_{50:012d}")
    for number, entry in enumerate([*entries, late]):
        await ledger_of(world).keep(Lane("acme", entries=(entry,), batches=number))
    lane = Lane("acme", batches=len(entries) + 1, marker=entries[3].position)
    assert await ledger_of(world).listed(lane) >= {entry.position for entry in entries[4:]}
    found = await ledger_of(world).listed(replace(lane, marker=entries[45].position))
    assert entries[0].position not in found, "no more is read than need be"


def test_an_event_that_appeared_late_is_not_lost_when_the_time_is_up_before_it_can_be_posted() -> None:
    world = DeliveryWorld()
    world.add(3)
    late = world.tables.items.pop("evt_000000000002")
    world.deliver()
    world.pass_time(2 * LOST_SECONDS)
    world.tables.add(late)
    at = timestamp(world.time())
    world.tables.api.put(new_event("acme", event_id="evt_000000000009", created_at=at, next_attempt_at=at))
    world.pass_time(10)
    world.seconds, world.latency = 1.0, lambda arrival: 2.0
    for _ in range(2):
        world.deliver()
        world.pass_time(LOOK_SECONDS)
    assert world.arrived() == [1, 3, 9, 2]


def test_what_was_accepted_is_written_every_few_seconds() -> None:
    world = DeliveryWorld(latency=lambda arrival: 1.0)
    world.add(12)
    unwritten = []

    def answer(arrival: Arrival) -> WebhookResponse:
        unwritten.append(len(world.arrivals) - len(world.tables.lane().get("entries", "").split()))
        return ACCEPTED

    world.answer = answer
    world.deliver()
    assert 1 < max(unwritten) <= UNWRITTEN_SECONDS + 2
