import json
import logging
import re
import time

import pytest
from airflow.sdk import Asset
from standardwebhooks.webhooks import Webhook

from airflow_ext.ids import EVENT_DELIVERY, XComKey
from airflow_ext.tasks import event_delivery
from include.delivery.report import DELIVER_TASK, MAX_SINGLE
from tests.dags.delivery import (
    DOWN,
    GONE,
    SUMMARY_TASK,
    DeliveryRuns,
    delivery_run,
    event_id,
    select_due,
    summarize,
    whole_run,
)
from tests.worlds.airflow import FakeRun
from tests.worlds.dynamodb import SECRET
from tests.worlds.http import OK

world = DeliveryRuns.fixture()


@pytest.fixture
def run() -> FakeRun:
    """A run that the queue woke, and that has just begun."""
    return delivery_run()


def test_due_events_are_posted_signed_and_counted(
    world: DeliveryRuns, run: FakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    began = time.time()
    world.add(2)
    summary = whole_run(run)
    told = [message for message in caplog.messages if message.startswith("event ")]
    assert [message.split()[1] for message in told] == [event_id(1), event_id(2)]
    assert all(re.search(r" delivered at attempt 1: \d+ bytes, sha256 [0-9a-f]{64}$", message) for message in told)
    assert world.tables.statuses() == ["delivered", "delivered"]
    bodies = []
    for request in world.posted():
        head, body = request.split(b"\r\n\r\n", 1)
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        Webhook(SECRET).verify(body, headers)
        bodies.append(json.loads(body)["id"])
        assert headers["Webhook-Id"] == bodies[-1]
    assert bodies == [event_id(1), event_id(2)]
    counts = {"attempts": 2, "delivered": 2, "postponed": 0, "failed": 0, "lost": 0, "unqueued": 0}
    assert summary == {"due": 2, "owners": 1, **counts, "failed_tasks": 0}
    assert run.outlet_events[Asset(EVENT_DELIVERY)].extra == summary
    assert run.pushed(SUMMARY_TASK, XComKey.NOTE) == [
        "**2 events delivered**", "", "- what to do: nothing",
        "- more: [operations page](http://localhost:8080/plugin/operations/events)",
        "- due: 2", "- owners: 1", "- posts: 2", "- again later: 0", "- failed: 0", "- failed tasks: 0",
    ]  # fmt: skip
    ((pipeline, metrics),) = world.metrics
    age = metrics.pop("OldestPendingSeconds")
    assert 59 < age < 61 + time.time() - began
    assert (pipeline, metrics) == (
        "event_delivery",
        {
            "FailedRuns": 0.0,
            "DueEvents": 2.0,
            "DeliveryAttempts": 2.0,
            "DeliveredEvents": 2.0,
            "FailedEvents": 0.0,
            "DeliverySuccessRate": 1.0,
        },
    )
    assert world.told() == []


def test_nothing_due_is_a_good_run(world: DeliveryRuns) -> None:
    run = delivery_run("scheduled")
    assert select_due(run) == []
    assert summarize(run)["due"] == 0
    names = {"OldestPendingSeconds", "DueEvents", "DeliveryAttempts", "DeliveredEvents", "FailedEvents"}
    expected = dict.fromkeys(names | {"FailedRuns"}, 0.0) | {"ScheduledRuns": 1.0}
    assert world.metrics == [("event_delivery", expected)], "no rate of nothing; and the alarm on missing runs hears it"


def test_events_that_nobody_wants_delivered_make_no_task(world: DeliveryRuns, run: FakeRun) -> None:
    world.add(3)
    world.tables.subscribe("acme", active=False)
    assert select_due(run) == []
    assert summarize(run)["due"] == 0
    assert world.tables.statuses() == ["pending"] * 3


def test_owners_are_shared_by_tasks_with_names(world: DeliveryRuns, run: FakeRun) -> None:
    for number, (owner, count) in enumerate([("big", 5), ("one", 1), ("two", 1)]):
        world.add(count, owner, first=10 * number)
    world.fill_task("big")
    shares = select_due(run)
    assert shares == [["big"], ["one", "two"]]
    names = []
    for index, owners in enumerate(shares):
        context = run.context(DELIVER_TASK, index)
        event_delivery.deliver(context, owners)
        names.append(context["label"])
    assert names == ["big", "2 owners"]
    assert set(world.tables.statuses()) == {"delivered"}


def test_event_that_failed_is_reported_once_and_the_run_a_success(world: DeliveryRuns, run: FakeRun) -> None:
    world.add(2)
    world.answer(DOWN, OK)
    summary = whole_run(run)
    assert (summary["failed"], summary["delivered"]) == (1, 1)
    assert world.dead() == [event_id(1)]
    assert world.told() == [f"[ERROR] event_delivery: event {event_id(1)} could not be delivered"]
    text = world.wire.slack[0]["text"]
    assert f"event {event_id(1)} of acme in deliver[0]: 1 attempts since " in text
    assert "503" in text
    assert f"/dags/event_delivery/runs/{run.run_id}/tasks/deliver/mapped/0" in text
    assert run.pushed(SUMMARY_TASK, XComKey.ALERTED)["channels"] == ["slack", "sns"]
    assert world.metrics[0][1]["DeliverySuccessRate"] == 0.5


@pytest.mark.parametrize(("failed", "alerts"), [(MAX_SINGLE, MAX_SINGLE), (MAX_SINGLE + 1, 1), (150, 1)])
def test_many_that_failed_are_reported_together(failed: int, alerts: int, world: DeliveryRuns, run: FakeRun) -> None:
    world.add(failed)
    world.answer(DOWN)
    assert whole_run(run)["failed"] == failed
    assert len(world.dead()) == failed
    told = world.told()
    assert len(told) == alerts
    if alerts == 1:
        assert told == [f"[ERROR] event_delivery: {failed} events could not be delivered"]


def test_receiver_that_is_gone_is_turned_off(world: DeliveryRuns, run: FakeRun) -> None:
    world.change_settings(max_delivery_attempts=3)
    world.add(2)
    world.answer(GONE)
    whole_run(run)
    assert world.tables.subscriptions["acme"]["active"] == {"BOOL": False}
    assert len(world.posted()) == 1
    assert select_due(delivery_run()) == []


@pytest.mark.parametrize(
    ("environment", "scheme", "address", "status"),
    [
        ("local", "http", "127.0.0.1", "delivered"),
        ("dev", "https", "93.184.216.34", "delivered"),
        ("dev", "http", "93.184.216.34", "failed"),
        ("prod", "https", "127.0.0.1", "failed"),
        ("prod", "https", "169.254.169.254", "failed"),
    ],
)
def test_only_the_local_stack_posts_to_its_own_machine(
    environment: str, scheme: str, address: str, status: str, world: DeliveryRuns, run: FakeRun
) -> None:
    world.change_settings(environment=environment)
    world.add(1, scheme=scheme)
    world.names.answers["acme.test"] = [[address]]
    world.network.servers[address] = [OK]
    whole_run(run)
    assert world.tables.statuses() == [status]
    assert len(world.network.streams) == (status == "delivered")
