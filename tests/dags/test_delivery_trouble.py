"""Runs of ``event_delivery`` in trouble: tasks that die, tables that fail, settings that are missing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_ext.ids import XComKey
from include.delivery.report import DELIVER_TASK, SELECT_TASK
from include.errors import AwsUnavailableError, SettingsError, WorkFailedError
from tests.dags.delivery import (
    DOWN,
    SUMMARY_TASK,
    DeliveryRuns,
    deliver,
    delivery_run,
    event_id,
    select_due,
    summarize,
    whole_run,
)
from tests.worlds.airflow import FakeRun
from tests.worlds.dynamodb import table_error
from tests.worlds.http import OK


@pytest.fixture
def world() -> Iterator[DeliveryRuns]:
    """Webhooks that take everything, no event."""
    with DeliveryRuns().attached() as world:
        yield world


@pytest.fixture
def run() -> FakeRun:
    """A run that the queue woke, and that has just begun."""
    return delivery_run()


def break_tables(world: DeliveryRuns, broken: str) -> None:
    """Let DynamoDB fail for one operation."""

    def fail(operation: str) -> None:
        if operation == broken:
            raise table_error("ThrottlingException")

    world.tables.before = fail


def test_killed_task_fails_the_run_and_what_it_saw_fail_is_told(world: DeliveryRuns, run: FakeRun) -> None:
    world.add(2)
    world.add(1, "other", first=3)
    world.fill_task("acme")
    world.answer(DOWN, OK)
    shares = select_due(run)
    assert shares == [["acme"], ["other"]]
    deliver(run, 0, shares[0])
    # Its event is in the table as failed, and the task is as one that died before it could say so.
    run.states[f"{DELIVER_TASK}_0"] = "failed"
    deliver(run, 1, shares[1])
    with pytest.raises(WorkFailedError, match=r"^1 tasks failed; what is due stays due"):
        summarize(run)
    failed, trouble = world.wire.sns
    assert failed["Subject"] == f"[ERROR] event_delivery: event {event_id(1)} could not be delivered"
    assert trouble["Subject"] == "[ERROR] event_delivery: events were not delivered by this run"
    assert "deliver[0]: the task was killed or never ran" in trouble["Message"]
    assert run.pushed(SUMMARY_TASK, "return_value")["failed_tasks"] == 1
    assert run.outlet_events == {}
    assert world.metrics[0][1]["FailedRuns"] == 1.0
    assert world.metrics[0][1]["FailedEvents"] == 1.0


def test_second_attempt_tells_of_what_failed_in_the_first(world: DeliveryRuns, run: FakeRun) -> None:
    world.add(2)
    world.answer(DOWN, OK, DOWN)
    (share,) = select_due(run)
    deliver(run, 0, share)
    world.add(1, first=3)
    deliver(run, 0, share, try_number=2)
    summary = summarize(run)
    assert (summary["failed"], summary["failed_tasks"]) == (2, 0)
    assert sorted(world.told()) == [
        f"[ERROR] event_delivery: event {event_id(number)} could not be delivered" for number in (1, 3)
    ]


def test_events_that_failed_in_an_earlier_run_are_not_told_again(world: DeliveryRuns, run: FakeRun) -> None:
    world.add(1)
    world.answer(DOWN, OK)
    whole_run(run)
    world.add(1, first=2)
    later = delivery_run()
    (share,) = select_due(later)
    deliver(later, 0, share, try_number=2)
    summarize(later)
    assert len(world.wire.sns) == 1


def test_task_that_gave_up_says_why(world: DeliveryRuns, run: FakeRun) -> None:
    world.add(1)
    (share,) = select_due(run)
    break_tables(world, "batch_execute_statement")
    with pytest.raises(AwsUnavailableError):
        deliver(run, 0, share)
    with pytest.raises(WorkFailedError):
        summarize(run)
    (message,) = world.wire.sns
    assert (
        "a share of what is due in deliver[0]: AwsUnavailableError: cannot write to table events" in message["Message"]
    )
    assert world.tables.statuses() == ["pending"]


def test_task_that_somebody_marked_as_success_is_told(world: DeliveryRuns, run: FakeRun) -> None:
    world.add(1)
    select_due(run)
    run.states[f"{DELIVER_TASK}_0"] = "success"
    with pytest.raises(WorkFailedError):
        summarize(run)
    assert len(world.wire.sns) == 1


def test_selection_that_fails_is_told_and_no_number_is_made_up(world: DeliveryRuns, run: FakeRun) -> None:
    world.add(1)
    break_tables(world, "query")
    with pytest.raises(WorkFailedError):
        whole_run(run)
    (message,) = world.wire.sns
    assert "what is due in select_due: AwsUnavailableError: cannot read from table events" in message["Message"]
    ((_, metrics),) = world.metrics
    assert metrics["FailedRuns"] == 1.0
    assert "OldestPendingSeconds" not in metrics, "0 would say that nothing waits"


@pytest.mark.parametrize("state", ["failed", "upstream_failed", None])
def test_killed_selection_is_told(state: str | None, world: DeliveryRuns, run: FakeRun) -> None:
    run.states[SELECT_TASK] = state
    with pytest.raises(WorkFailedError):
        summarize(run)
    assert "what is due in select_due: the task was killed" in world.wire.sns[0]["Message"]


@pytest.mark.parametrize("name", ["events_table", "subscriptions_table", "event_queue_url", "event_dlq_url"])
def test_missing_setting_is_named(name: str, world: DeliveryRuns, run: FakeRun) -> None:
    world.change_settings(**{name: ""})
    with pytest.raises(SettingsError, match=f"{name} missing: deploy the application stack"):
        select_due(run)
    assert name in run.pushed(SELECT_TASK, XComKey.FAILURE)


def test_people_are_alerted_when_xcom_takes_nothing(world: DeliveryRuns, run: FakeRun) -> None:
    world.add(1)
    world.answer(DOWN)
    (share,) = select_due(run)
    deliver(run, 0, share)
    run.xcoms.refused = ("return_value", XComKey.ALERTED)
    summarize(run)
    assert len(world.wire.sns) == 1
    assert run.pushed(SUMMARY_TASK, "return_value") is None
