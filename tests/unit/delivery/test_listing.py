"""What people are shown of an owner's events: the same as the API shows its owner."""

import pytest

from include.delivery.ledger import GRACE_SECONDS
from include.delivery.listing import OwnerEvents
from include.delivery.models import Event, Status, timestamp
from lambdas.events_api.models import Status as ApiStatus
from lambdas.events_api.store import LATEST_BATCHES, Listing
from tests.worlds.dynamodb import EVENTS
from tests.worlds.events import ACCEPTED, START, DeliveryWorld, refused, walk


def world_of_all_statuses() -> DeliveryWorld:
    """Events with and without a status of their own: delivered, failed, replayed, acknowledged, and some that wait."""
    world = DeliveryWorld(max_attempts=1)
    world.by_lane = False
    world.add(3)
    world.by_lane = True
    world.add(40, first=4)
    world.answer = lambda arrival: refused() if arrival.event_id.endswith("7") else ACCEPTED
    world.deliver()
    world.tables.api.acknowledge("acme", "evt_000000000005", timestamp(START))
    world.tables.api.replay("acme", "evt_000000000006", timestamp(START))
    world.add(5, first=50)
    return world


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("status", list(Status))
def test_pages_hold_what_the_api_lists(status: Status, limit: int) -> None:
    world = world_of_all_statuses()
    listing = Listing(ApiStatus(status.value), newest_first=status is not Status.PENDING)
    expected = [(event.event_id, event.attempts) for event in walk(world.tables.api, "acme", listing, 7)]
    events = OwnerEvents(world.tables, EVENTS, "acme")
    found: list[Event] = []
    after: str | None = ""
    while after is not None:
        items, after = events.page(status, limit, after)
        assert len(items) <= limit
        found += map(Event.of, items)
    assert [(event.event_id, event.attempt_log) for event in found] == expected
    assert {event.status for event in found} == {status}
    assert events.count(status, 100) == str(len(expected))
    assert events.count(status, 0) == "0+"


@pytest.mark.parametrize("fetched", [1, 2, 15])
def test_page_begins_with_what_waits_behind_events_that_their_owner_has_fetched(fetched: int) -> None:
    world = DeliveryWorld()
    world.add(20)
    world.deliver()
    # While its webhook is off, an owner fetches them.
    world.add(20, first=21)
    names = [f"evt_{number:012}" for number in range(21, 41)]
    for name in names[:fetched]:
        world.tables.api.acknowledge("acme", name, timestamp(START))
    items, after = OwnerEvents(world.tables, EVENTS, "acme").page(Status.PENDING, 1)
    assert [item["event_id"]["S"] for item in items] == [names[fetched]]
    assert after is not None


def test_owner_without_events_has_none() -> None:
    events = OwnerEvents(DeliveryWorld().tables, EVENTS, "nobody")
    for status in Status:
        assert (events.page(status, 10), events.count(status, 10)) == (([], None), "0")


def test_every_delivered_event_is_shown_though_one_that_appeared_late_has_a_batch_of_its_own() -> None:
    world = DeliveryWorld()
    world.add(60)
    world.tables.hidden = {"evt_000000000003"}
    world.deliver()
    world.tables.hidden = set()
    world.pass_time(2 * GRACE_SECONDS)
    world.deliver()
    world.add(40 * LATEST_BATCHES, first=100)
    world.deliver()
    events = world.tables.events
    assert len(world.arrivals) == len(events)
    assert {world.tables.api.get("acme", name).status for name in events} == {ApiStatus.DELIVERED}
    position = events["evt_000000000003"]["position"]["S"]
    items, _ = OwnerEvents(world.tables, EVENTS, "acme").page(Status.DELIVERED, 1, position)
    assert [item["event_id"]["S"] for item in items] == ["evt_000000000002"]
