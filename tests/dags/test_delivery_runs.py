"""Whole runs of ``event_delivery`` through Airflow's own task runner, against a world of ours."""

import json

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.dagrun import DagRun
from airflow.sdk import Asset

from airflow_ext.ids import EVENT_DELIVERY, EVENT_QUEUE_ASSET
from airflow_ext.triggers.sqs_wakeup import EventQueueTrigger
from tests.dags.delivery import DOWN, DeliveryRuns, event_id
from tests.dags.runs import kept_by_airflow, run_dag, states
from tests.worlds.dynamodb import SECRET, table_error
from tests.worlds.http import OK
from tests.worlds.pipeline import PLANTED, leaks
from tests.worlds.s3 import raising

pytestmark = pytest.mark.usefixtures("airflow_database")


world = DeliveryRuns.fixture()


def run() -> DagRun:
    return run_dag(EVENT_DELIVERY)


def test_queue_and_clock_wake_it(dagbag: DagBag) -> None:
    timetable = dagbag.dags[EVENT_DELIVERY].timetable
    assert timetable.timetable.expression == "* * * * *"
    (asset,) = timetable.asset_condition.objects
    assert isinstance(asset, Asset)
    assert asset.name == EVENT_QUEUE_ASSET
    (watcher,) = asset.watchers
    assert isinstance(watcher.trigger, EventQueueTrigger)


def test_events_are_delivered_in_named_tasks(world: DeliveryRuns) -> None:
    world.add(3, "big")
    world.fill_task("big")
    world.add(1, "one", first=10)
    world.add(1, "two", first=11)
    dag_run = run()
    assert dag_run.state == "success"
    assert states(dag_run) == {
        ("select_due", -1): "success",
        ("deliver", 0): "success",
        ("deliver", 1): "success",
        ("summarize", -1): "success",
    }
    names = {ti.map_index: ti.rendered_map_index for ti in dag_run.get_task_instances() if ti.map_index >= 0}
    assert names == {0: "big", 1: "2 owners"}
    assert set(world.tables.statuses()) == {"delivered"}
    assert world.metrics[0][1]["DeliveredEvents"] == 5.0


def test_run_with_nothing_due_is_a_success(world: DeliveryRuns) -> None:
    dag_run = run()
    assert dag_run.state == "success"
    assert states(dag_run) == {("select_due", -1): "success", ("deliver", -1): "skipped", ("summarize", -1): "success"}
    assert len(world.metrics) == 1


def test_tables_that_fail_for_a_moment_are_asked_again(world: DeliveryRuns) -> None:
    world.add(1)
    errors = iter([table_error("ThrottlingException")])

    def fail(operation: str) -> None:
        if operation == "query" and (error := next(errors, None)):
            raise error

    world.tables.before = fail
    assert run().state == "success"
    assert world.tables.statuses() == ["delivered"]
    assert world.wire.sns == []


def test_tables_that_refuse_fail_the_run_which_is_reported_once(world: DeliveryRuns) -> None:
    world.add(1)
    world.tables.before = raising(table_error("AccessDeniedException"))
    dag_run = run()
    assert dag_run.state == "failed"
    assert states(dag_run)["select_due", -1] == states(dag_run)["summarize", -1] == "failed"
    assert (len(world.wire.sns), len(world.wire.slack)) == (1, 1)
    assert "AwsRefusedError: cannot read from table events" in world.wire.sns[0]["Message"]


def test_payloads_and_secrets_are_nowhere_to_be_seen(
    world: DeliveryRuns, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("airflow_ext", "include"):
        caplog.set_level("DEBUG", logger=name)
    world.add(3, payload=json.dumps({"a": PLANTED}), metadata=json.dumps({"b": PLANTED}))
    quoted = repr({"a": PLANTED, "secret": SECRET}).encode()
    world.answer(DOWN, b"HTTP/1.1 500 x\r\nContent-Length: %d\r\n\r\n%b" % (len(quoted), quoted), OK)
    dag_run = run()
    assert dag_run.state == "success", "an event that failed is the receiver's matter"
    assert len(world.told()) == 2
    assert all(json.dumps(PLANTED).encode() in request for request in world.posted())
    out, err = capfd.readouterr()
    everything = {
        "log": caplog.text,
        "printed": out + err,
        "sns": str(world.wire.sns),
        "slack": str(world.wire.slack),
        "queue": str(world.sqs.bodies),
        **kept_by_airflow(dag_run),
    }
    assert event_id(1) in everything["log"] + out + err
    assert leaks(everything, PLANTED, SECRET, SECRET.removeprefix("whsec_")) == []
