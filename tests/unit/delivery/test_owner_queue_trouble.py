"""What goes wrong with one event or receiver: nobody else waits for it, and somebody is told."""

import logging
from typing import Any

import pytest

from include.clients.webhooks import WebhookResponse
from include.delivery.event_table import PAGE
from include.delivery.models import timestamp
from include.delivery.owner_queue import SLOW_QUEUE_SECONDS, SLOW_SECONDS
from tests.worlds.dynamodb import event_item, table_error
from tests.worlds.events import ACCEPTED, START, Arrival, DeliveryWorld, refused
from tests.worlds.s3 import raising


def with_a_neighbour(**changes: Any) -> DeliveryWorld:
    """Three events of an owner whose receiver is in trouble, and three of one whose receiver is well."""
    world = DeliveryWorld(**changes)
    world.add(3, "bad")
    world.add(3, "good", first=11)
    return world


def answering(reply: WebhookResponse) -> Any:
    return lambda arrival: reply if "bad" in arrival.url else ACCEPTED


@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException"])
def test_a_dead_letter_queue_that_fails_holds_up_nobody_and_the_event_is_reported_otherwise(
    code: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = with_a_neighbour(max_attempts=1)
    world.answer = answering(refused(500))
    world.sqs.before["send_message"] = raising(table_error(code))
    counts = world.deliver("bad", "good")
    assert world.arrived("bad") == [1, 2, 3], "once each"
    assert world.tables.statuses() == ["failed"] * 3 + ["delivered"] * 3
    assert (counts.failed, counts.unqueued, counts.delivered) == (3, 3, 3)
    assert [letter.event_id for letter in counts.dead] == [f"evt_{number:012d}" for number in (1, 2, 3)]
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 3


def test_a_subscription_that_cannot_be_turned_off_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    world = with_a_neighbour()
    world.answer = answering(refused(410))

    def fail(operation: str) -> None:
        if operation == "update_subscription":
            raise table_error("ThrottlingException")

    world.tables.before = fail
    assert world.deliver("bad", "good").delivered == 3
    first = world.tables.plain(1)
    assert (first["status"], first["delivery_attempts"], first["last_status"]) == ("pending", 1, 410)
    assert "cannot write to table subscriptions" in caplog.text
    world.tables.before = lambda operation: None
    world.pass_time(60)
    world.deliver("bad")
    assert world.tables.subscriptions["bad"]["active"] == {"BOOL": False}


def test_a_receiver_that_raises_is_one_that_refuses(caplog: pytest.LogCaptureFixture) -> None:
    world = with_a_neighbour(max_attempts=1)

    def answer(arrival: Arrival) -> WebhookResponse:
        if "bad" in arrival.url:
            raise RuntimeError("pl4nted")
        return ACCEPTED

    world.answer = answer
    counts = world.deliver("bad", "good")
    assert (counts.failed, counts.delivered) == (3, 3)
    assert world.tables.plain(1)["last_error"] == "connection failed: RuntimeError"
    assert "RuntimeError" in caplog.text
    assert "pl4nted" not in caplog.text


def test_nobody_is_alerted_of_an_event_that_was_changed_before_it_could_fail() -> None:
    world = DeliveryWorld(max_attempts=1)
    world.add(1)

    def answer(arrival: Arrival) -> WebhookResponse:
        world.tables.change(1, status="acknowledged", next_attempt_at=None, lease_owner=None, lease_until=None)
        return refused(500)

    world.answer = answer
    counts = world.deliver()
    assert (counts.failed, counts.lost, counts.dead) == (0, 1, [])
    assert world.tables.statuses() == ["acknowledged"]


@pytest.mark.parametrize("by_lane", [True, False])
def test_an_event_that_was_deleted_and_posted_anew_meanwhile_is_delivered_too(by_lane: bool) -> None:
    world = DeliveryWorld(by_lane=by_lane)
    world.add(8)
    replaced = False

    def answer(arrival: Arrival) -> WebhookResponse:
        nonlocal replaced
        # By then the worker holds the seventh as it was, behind the one that it has just posted.
        if arrival.event_id.endswith("6") and not replaced:
            replaced = True
            world.tables.add(event_item(7, created=START - 2, payload='{"n":"corrected"}'))
        return ACCEPTED

    world.answer = answer
    for _ in range(2):
        world.deliver()
    assert set(world.tables.statuses()) == {"delivered"}
    assert world.arrived().count(7) == 2, "the old one, and the new one"
    assert world.tables.plain(7)["payload"] == '{"n":"corrected"}'


def test_a_receiver_that_refuses_slowly_is_left_to_the_next_run() -> None:
    world = DeliveryWorld()
    world.add(3)
    world.answer = lambda arrival: refused()
    world.latency = lambda arrival: SLOW_SECONDS + 0.1
    counts = world.deliver()
    assert (counts.attempts, counts.postponed) == (1, 1)
    assert world.time() - START < 2 * SLOW_SECONDS
    assert world.tables.plain(1)["next_attempt_at"] <= timestamp(world.time() + 2), "the next run need not wait"


def test_a_receiver_that_stays_slow_is_left_to_the_next_run() -> None:
    world = DeliveryWorld()
    world.add(PAGE + 10)
    world.latency = lambda arrival: 5.0
    assert world.deliver().delivered == SLOW_QUEUE_SECONDS / 5
    assert not any("lease_owner" in item for item in world.tables.events.values())
    world.deliver()
    assert world.arrived() == list(range(1, 9))


@pytest.mark.parametrize("by_lane", [True, False])
def test_a_receiver_that_becomes_slow_is_left_to_the_next_run(by_lane: bool) -> None:
    world = DeliveryWorld(by_lane=by_lane)
    world.add(60)
    # By then many are claimed together.
    world.latency = lambda arrival: 5.0 if len(world.arrivals) > 32 else 0.01
    assert world.deliver().delivered == 32 + SLOW_QUEUE_SECONDS / 5


def test_a_receiver_that_is_slow_now_and_then_is_not_left() -> None:
    world = DeliveryWorld()
    world.add(30)
    world.latency = lambda arrival: 5.0 if arrival.event_id.endswith(("0", "5")) else 0.01
    assert world.deliver().delivered == 30
