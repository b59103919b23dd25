"""Many queues in one task: none holds up another, and what goes wrong is told as what it is."""

import asyncio
import json
import logging

import pytest

from include.clients.webhooks import WebhookResponse
from include.delivery.dispatcher import PATIENCE_SECONDS, REFRESH_SECONDS
from include.delivery.models import timestamp
from include.delivery.report import DeliveryCounts
from include.errors import AwsRefusedError, AwsUnavailableError, WorkFailedError
from tests.worlds.dynamodb import SECRET, table_error
from tests.worlds.events import ACCEPTED, START, Arrival, DeliveryWorld, refused
from tests.worlds.pipeline import PLANTED, leaks


def test_no_owner_and_an_owner_without_a_webhook_are_no_work() -> None:
    world = DeliveryWorld()
    assert asyncio.run(world.dispatcher().deliver([])) == DeliveryCounts()
    world.add(3)
    world.tables.subscribe("acme", active=False)
    assert world.deliver() == DeliveryCounts()
    assert "lease_owner" not in world.tables.plain(1)
    assert world.tables.plain(1)["version"] == 1, "they are not touched"


def test_a_receiver_that_is_down_holds_up_its_own_events_only() -> None:
    world = DeliveryWorld(concurrency=2)
    owners = ["down", *(f"up-{number}" for number in range(6))]
    for index, owner in enumerate(owners):
        world.add(30, owner, first=100 * index + 1)
    world.answer = lambda arrival: refused(None) if "down" in arrival.url else ACCEPTED
    world.latency = lambda arrival: 10.0 if "down" in arrival.url else 0.01
    counts = world.deliver(*owners)
    assert counts.delivered == 180
    assert set(world.arrived("down")) == {1}
    for index, owner in enumerate(owners[1:], 1):
        assert world.arrived(owner) == list(range(100 * index + 1, 100 * index + 31))


@pytest.mark.parametrize("by_lane", [True, False])
def test_an_item_that_is_no_event_costs_only_its_owner(by_lane: bool) -> None:
    world = DeliveryWorld(by_lane=by_lane)
    owners = ["broken", *(f"up-{number}" for number in range(6))]
    for index, owner in enumerate(owners):
        world.add(3, owner, first=100 * index + 1)
    del world.tables.items["evt_000000000002"]["event_type"]
    with pytest.raises(WorkFailedError, match=r"events of 1 owners cannot be read \(broken\)"):
        world.deliver(*owners)
    assert sum(len(world.arrived(owner)) for owner in owners[1:]) == 18


def test_an_owner_with_many_events_does_not_keep_the_others_waiting() -> None:
    world = DeliveryWorld(concurrency=1)
    world.add(400, "many")
    world.add(2, "few", first=1000)
    world.deliver("many", "few")
    position = [arrival.url for arrival in world.arrivals].index("https://few.test/hook")
    assert position <= 100, "its turn comes after a page"


@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_no_more_posts_are_under_way_than_allowed(concurrency: int) -> None:
    world = DeliveryWorld(concurrency=concurrency)
    owners = [f"owner-{number}" for number in range(40)]
    for index, owner in enumerate(owners):
        world.add(5, owner, first=10 * index + 1)
    assert world.deliver(*owners).delivered == 200
    assert world.most_under_way == concurrency


def test_connections_do_not_stay_open_for_every_owner() -> None:
    world = DeliveryWorld(concurrency=4)
    owners = [f"owner-{number}" for number in range(40)]
    for index, owner in enumerate(owners):
        world.add(60, owner, first=100 * index + 1)
    world.deliver(*owners)
    assert world.open == 0
    assert world.most_open <= 12, "as many as queues are under way, give or take"


def test_what_is_left_when_the_time_is_up_is_for_the_next_run() -> None:
    world = DeliveryWorld(seconds=1.0)
    world.add(50)
    world.latency = lambda arrival: 0.1
    counts = world.deliver()
    assert 5 < counts.delivered < 45
    assert world.arrived() == list(range(1, counts.delivered + 1))
    assert not any("lease_owner" in item for item in world.tables.events.values())
    calls = world.tables.calls["update_item"]
    world.seconds = 0
    world.deliver()
    assert world.tables.calls["update_item"] == calls, "no lane is taken any more"
    world.seconds = 300
    world.deliver()
    assert world.arrived() == list(range(1, 51))


def test_a_short_pause_is_waited_for_and_a_long_one_is_not() -> None:
    world = DeliveryWorld()
    world.add(1)
    tries = 0

    def answer(arrival: Arrival) -> WebhookResponse:
        nonlocal tries
        tries += 1
        return refused() if tries < 3 else ACCEPTED

    world.answer = answer
    assert world.deliver().delivered == 1
    assert world.time() - START < 3 * PATIENCE_SECONDS
    world.add(1, "slow", first=50)
    world.answer = lambda arrival: refused(retry_after=PATIENCE_SECONDS + 1)
    assert world.deliver("slow").attempts == 1


def test_a_webhook_that_is_turned_off_or_changed_gets_no_more() -> None:
    world = DeliveryWorld()
    world.add(200, "off")
    world.add(200, "moved", first=1000)
    world.latency = lambda arrival: REFRESH_SECONDS / 50

    def answer(arrival: Arrival) -> WebhookResponse:
        if len(world.arrived("off")) == 60:
            world.tables.subscribe("off", active=False)
            world.tables.subscribe("moved", "https://new.test/hook")
        return ACCEPTED

    world.answer = answer
    world.deliver("off", "moved")
    assert 60 <= len(world.arrived("off")) < 200
    moved = [arrival.event_id for arrival in world.arrivals if "off" not in arrival.url]
    assert moved == [f"evt_{number:012d}" for number in range(1000, 1200)]
    assert any("new.test" in arrival.url for arrival in world.arrivals)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (table_error("ThrottlingException"), AwsUnavailableError),
        (table_error("AccessDeniedException"), AwsRefusedError),
    ],
)
@pytest.mark.parametrize("operation", ["query", "batch_execute_statement", "batch_get_item", "update_item"])
def test_the_error_itself_is_raised_and_what_was_posted_by_then_is_noted(
    error: Exception, kind: type[Exception], operation: str
) -> None:
    world = DeliveryWorld(concurrency=4, by_lane=operation != "batch_execute_statement")
    owners = [f"owner-{number}" for number in range(20)]
    for index, owner in enumerate(owners):
        world.add(3 + index, owner, first=100 * index + 1)
    calls = 0

    def fail(called: str) -> None:
        nonlocal calls
        calls += called == operation
        if called == operation and (operation == "batch_get_item" or calls > 14):
            raise error

    world.tables.before = fail
    with pytest.raises(kind):
        world.deliver(*owners)
    assert world.open == 0
    if operation == "query":
        arrived = {arrival.event_id for arrival in world.arrivals}
        settled = {event_id for event_id, status in world.tables.found_statuses().items() if status == "delivered"}
        assert len(arrived) > 20
        assert len(arrived - settled) <= 4, "at most what was on its way"
        for owner in {item["owner"]["S"] for key, item in world.tables.events.items() if key not in settled}:
            assert world.tables.lane(owner)["next_attempt_at"] <= timestamp(world.time()), "the next run goes on"
            assert world.tables.lane(owner)["oldest"] < timestamp(START), "and its age is not forgotten"


def test_the_log_tells_ids_and_counts_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world = DeliveryWorld(max_attempts=2)
    world.add(3, payload=json.dumps({"card": PLANTED}))
    world.answer = lambda arrival: refused(410)
    world.deliver()
    assert "evt_000000000001" in caplog.text
    assert leaks(caplog.text, PLANTED, SECRET, "whsec_", "v1,") == []
