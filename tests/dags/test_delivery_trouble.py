"""Runs of ``event_delivery`` in trouble: tasks that die, tables that fail, settings that are missing."""

import time
from contextlib import nullcontext
from copy import deepcopy

import pytest

from airflow_ext.ids import XComKey
from include.delivery.models import timestamp
from include.delivery.report import DELIVER_TASK, MAX_NAMED, SELECT_TASK
from include.errors import AwsUnavailableError, SettingsError, WorkFailedError
from lambdas.events_api.models import event_view
from tests.dags.delivery import (
    DOWN,
    SUMMARY_TASK,
    DeliveryRuns,
    deliver,
    delivery_run,
    event_id,
    select_due,
    summarize,
    summary_fails,
    whole_run,
)
from tests.worlds.airflow import FakeRun
from tests.worlds.dynamodb import table_error
from tests.worlds.http import OK
from tests.worlds.s3 import raising

world = DeliveryRuns.fixture()


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


def test_killed_task_fails_the_run_and_what_it_saw_fail_is_reported(world: DeliveryRuns, run: FakeRun) -> None:
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
    summary_fails(run, r"^1 tasks failed; what is due stays due")
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


def test_events_that_failed_in_an_earlier_run_are_not_reported_again(world: DeliveryRuns, run: FakeRun) -> None:
    world.add(1)
    world.answer(DOWN, OK)
    whole_run(run)
    world.add(1, first=2)
    later = delivery_run()
    (share,) = select_due(later)
    deliver(later, 0, share, try_number=2)
    summarize(later)
    assert len(world.wire.sns) == 1


def told_events(world: DeliveryRuns) -> list[str]:
    """The events that alerts tell of."""
    return [subject.split()[3] for subject in world.told() if "could not be delivered" in subject]


def end(world: DeliveryRuns, run: FakeRun, *, killed: bool = True) -> list[str]:
    """Let a run end, its task killed or not; returns the events that it tells of."""
    before = len(told_events(world))
    run.states[f"{DELIVER_TASK}_0"] = "failed" if killed else "success"
    with pytest.raises(WorkFailedError) if killed else nullcontext():
        summarize(run)
    return told_events(world)[before:]


def at_once(world: DeliveryRuns, count: int = 2) -> list[FakeRun]:
    """Runs that begin at the same time and have the same share; an event fails in the first one."""
    world.add(1)
    world.answer(DOWN)
    runs = [delivery_run() for _ in range(count)]
    shares = [select_due(run) for run in runs]
    deliver(runs[0], 0, shares[0][0])
    return runs


@pytest.mark.parametrize("killed", [(True, True), (False, True), (True, False)])
def test_event_that_several_runs_saw_fail_is_reported_by_the_first(
    killed: tuple[bool, bool], world: DeliveryRuns
) -> None:
    saw, other = at_once(world)
    world.tables.be_late()
    pairs = [(saw, killed[0]), (other, True)] if killed[1] else [(other, True), (saw, killed[1])]
    assert [end(world, run, killed=dies) for run, dies in pairs] == [[event_id(1)], []]


def test_summary_that_dies_before_its_mark_is_reported_again_and_after_it_is_not(world: DeliveryRuns) -> None:
    first, second, third = at_once(world, 3)

    def die(operation: str) -> None:
        if operation == "batch_execute_statement":
            raise KeyboardInterrupt

    world.tables.before = die
    with pytest.raises(KeyboardInterrupt):
        summarize(first)
    world.tables.before = lambda operation: None
    assert told_events(world) == [event_id(1)]
    assert [end(world, run) for run in (second, third)] == [[event_id(1)], []]
    assert end(world, first, killed=False) == [], "its retry"


@pytest.mark.parametrize("broken", ["batch_get_item", "batch_execute_statement"])
def test_table_that_fails_keeps_nobody_from_being_alerted(broken: str, world: DeliveryRuns) -> None:
    first, second, third = at_once(world, 3)
    break_tables(world, broken)
    assert end(world, first, killed=False) == [event_id(1)]
    world.tables.before = lambda operation: None
    assert [end(world, run) for run in (second, third)] == [[event_id(1)], []]


@pytest.mark.parametrize("kept", [True, False])
def test_event_is_reported_when_its_alert_is_on_its_way(kept: bool, world: DeliveryRuns) -> None:
    first, second = at_once(world)
    world.wire.sns_is_down = world.wire.slack_is_down = True
    world.change_settings(order_results_bucket="order-results" if kept else "nowhere")
    assert end(world, first) == []
    world.wire.sns_is_down = world.wire.slack_is_down = False
    world.change_settings(order_results_bucket="empty")
    assert end(world, second) == ([] if kept else [event_id(1)])


def test_event_that_the_queue_did_not_take_is_reported_by_the_run_that_knows(world: DeliveryRuns) -> None:
    world.sqs.before["send_message"] = raising(table_error("AccessDenied"))
    saw, other = at_once(world)
    assert end(world, other) == [event_id(1)]
    assert end(world, saw, killed=False) == [event_id(1)]
    assert "did not take: 1" in world.wire.sns[-1]["Message"]


def test_events_that_a_task_does_not_name_are_reported_all_the_same(world: DeliveryRuns) -> None:
    world.add(MAX_NAMED + 4, first=2)
    saw, other = at_once(world)
    end(world, other)
    end(world, saw, killed=False)
    subject = f"[ERROR] event_delivery: {MAX_NAMED + 5} events could not be delivered"
    assert [told for told in world.told() if "delivered by this run" not in told] == [subject] * 2


def test_event_that_failed_again_after_a_replay_is_reported_again(world: DeliveryRuns) -> None:
    first, second, third = at_once(world, 3)
    assert end(world, first) == [event_id(1)]
    world.tables.api.replay("acme", event_id(1), timestamp(time.time()))
    deliver(second, 0, ["acme"])
    assert [end(world, run) for run in (second, third)] == [[event_id(1)], []]


@pytest.mark.parametrize("change", ["replay", "acknowledge", "delete"])
def test_event_that_somebody_changes_before_the_mark_stays_as_it_is_then(change: str, world: DeliveryRuns) -> None:
    (run,) = at_once(world, 1)
    after = []

    def come_first(operation: str) -> None:
        if operation == "batch_execute_statement":
            api, at = world.tables.api, timestamp(time.time())
            {
                "replay": lambda: api.replay("acme", event_id(1), at),
                "acknowledge": lambda: api.acknowledge("acme", event_id(1), at),
                "delete": lambda: api.delete("acme", event_id(1)),
            }[change]()
            after.append(deepcopy(world.tables.events))

    world.tables.before = come_first
    assert end(world, run) == [event_id(1)]
    assert after == [world.tables.events]


def test_owners_do_not_see_the_mark(world: DeliveryRuns) -> None:
    (run,) = at_once(world, 1)
    before = event_view(world.tables.api.get("acme", event_id(1)))
    assert end(world, run) == [event_id(1)]
    assert set(world.tables.events[event_id(1)]) >= {"told_failure"}
    assert event_view(world.tables.api.get("acme", event_id(1))) == before


def test_task_that_gave_up_says_why(world: DeliveryRuns, run: FakeRun) -> None:
    world.add(1)
    (share,) = select_due(run)
    break_tables(world, "batch_execute_statement")
    with pytest.raises(AwsUnavailableError):
        deliver(run, 0, share)
    summary_fails(run)
    (message,) = world.wire.sns
    assert (
        "a share of what is due in deliver[0]: AwsUnavailableError: cannot write to table events" in message["Message"]
    )
    assert world.tables.statuses() == ["pending"]


def test_task_that_somebody_marked_as_success_is_reported(world: DeliveryRuns, run: FakeRun) -> None:
    world.add(1)
    select_due(run)
    run.states[f"{DELIVER_TASK}_0"] = "success"
    summary_fails(run)
    assert len(world.wire.sns) == 1


def test_selection_that_fails_is_reported_and_no_number_is_made_up(world: DeliveryRuns, run: FakeRun) -> None:
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
def test_killed_selection_is_reported(state: str | None, world: DeliveryRuns, run: FakeRun) -> None:
    run.states[SELECT_TASK] = state
    summary_fails(run)
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
