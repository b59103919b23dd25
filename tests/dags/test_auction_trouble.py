"""Runs of ``energy_auction`` in trouble: storage that fails, time that is up, runs that are cleared late."""

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowSkipException

from airflow_ext.ids import ENERGY_AUCTION, SLACK_CONNECTION, XComKey
from airflow_ext.outside import outside
from airflow_ext.tasks.energy_auction import MOST_KEPT, XCOM_ORDERS
from airflow_ext.triggers.lambda_result import Wait
from include.alerts import Alert, Severity
from include.auction.alerts import ATTEMPTS, ORDER_TASK, WAIT_TASK
from include.auction.deadlines import LAST_ALERT, LAST_ORDER, RUN
from include.errors import StorageRefusedError, WorkFailedError
from include.outbox import Outbox
from tests.dags.auction import (
    SUMMARY_TASK,
    begin,
    fire,
    process,
    process_all,
    summarize,
    summary_fails,
    wait_for_results,
)
from tests.worlds.airflow import FakeRun
from tests.worlds.auction import BUCKET, A, AuctionWorld, B
from tests.worlds.s3 import raising, s3_error

NOT_YET = {"results": False}


world = AuctionWorld.fixture()


@pytest.fixture
def run() -> FakeRun:
    return begun(0)


def begun(seconds_ago: float) -> FakeRun:
    return FakeRun(dag_id=ENERGY_AUCTION, start_date=datetime.fromtimestamp(outside.now() - seconds_ago, UTC))


def fail_papers(world: AuctionWorld, operation: str, name: str, *, times: int = 1000) -> None:
    """Let S3 fail for the run's documents of this name."""
    left = iter(range(times))

    def fail(request: dict[str, Any]) -> None:
        if request["Key"].endswith(name) and next(left, None) is not None:
            raise s3_error("SlowDown")

    world.s3.before[operation] = fail


def test_orders_that_storage_refused_at_first_are_kept_by_the_worker_that_has_them(
    world: AuctionWorld, run: FakeRun
) -> None:
    world.give("accepted", "rejected")
    world.answer([*world.answers, NOT_YET])
    fail_papers(world, "PutObject", "orders.json", times=3)
    assert len(wait_for_results(run)) == 2, "they cannot travel to the triggerer, and Lambda A gives them once"
    assert len(world.functions.asked(A)) == 1


def test_wait_goes_on_in_the_triggerer_without_orders_to_lose(world: AuctionWorld, run: FakeRun) -> None:
    world.answer([NOT_YET, {"results": True, "orders": [{"status": "accepted"}]}, NOT_YET])
    fail_papers(world, "PutObject", "orders.json", times=3)
    found = begin(run)
    assert isinstance(found, Wait)
    event = fire(found)
    assert event["ready"]
    assert len(world.functions.asked(A)) == 2


def test_orders_that_storage_goes_on_to_refuse_fail_the_run(world: AuctionWorld, run: FakeRun) -> None:
    world.give("accepted")
    fail_papers(world, "PutObject", "orders.json")
    with pytest.raises(WorkFailedError, match="StorageUnavailableError: cannot write"):
        begin(run)
    assert len(world.functions.asked(A)) == 1


def test_first_look_that_comes_too_late_skips_the_run(world: AuctionWorld) -> None:
    run = begun(241)
    world.give("accepted")
    with pytest.raises(AirflowSkipException, match=r"^no results within 240 s; .* at least 0$"):
        begin(run)
    assert run.pushed(WAIT_TASK, XComKey.FAILURE) is None
    assert world.functions.asked(A) == []
    with pytest.raises(AirflowSkipException, match="no results within 240 s"):
        summarize(run)


def test_orders_that_are_kept_are_found_however_late(world: AuctionWorld, run: FakeRun) -> None:
    world.give("accepted")
    works = wait_for_results(run)
    run.start_date = begun(241).start_date
    assert wait_for_results(run) == works


def test_orders_whose_time_is_up_fail_for_good_until_the_run_is_cleared(world: AuctionWorld, run: FakeRun) -> None:
    world.give("accepted", "accepted")
    works = wait_for_results(run)
    process(run, 0, works[0])
    run.start_date = begun(LAST_ORDER + 1).start_date
    with pytest.raises(WorkFailedError, match="the run's time was up; clear the task to process the order"):
        process(run, 1, works[1])
    summary_fails(run, "1 of 2 orders failed")
    assert "order 1 (id " in world.wire.sns[0]["Message"]
    assert len(world.functions.asked(B)) == 1
    run.clear_number += 1
    run.start_date = begun(0).start_date
    process(run, 1, works[1])
    assert summarize(run)["accepted"] == 2


@pytest.mark.parametrize(
    ("age", "seconds", "undelivered"),
    [
        (0, 39, 0),
        (0, 41, 2),
        (LAST_ALERT - 30, 21, 0),
        (LAST_ALERT - 30, 31, 2),
        (LAST_ALERT + 60, 4, 0),
        (LAST_ALERT + 60, 6, 2),
    ],
)
def test_alerts_have_what_is_left_of_the_runs_time(
    age: float, seconds: float, undelivered: int, world: AuctionWorld, run: FakeRun
) -> None:
    world.give("rejected")
    process_all(run, wait_for_results(run))
    run.start_date = begun(age).start_date
    # One look to open Slack, one to begin.
    elapsed = itertools.chain([0.0, 0.0], itertools.repeat(seconds))
    with outside.replaced(monotonic=lambda: next(elapsed)):
        summarize(run)
    assert world.metrics[0][1]["UndeliveredAlerts"] == undelivered
    step = "docs/RUNBOOK.md#energy-auction-undelivered-alerts" if undelivered else "nothing"
    assert run.pushed(SUMMARY_TASK, XComKey.NOTE)[2] == f"- what to do: {step}"


@pytest.mark.parametrize(("seconds_left", "sent"), [(31, 1), (29, 0)])
def test_alert_that_waits_is_left_to_later_runs_where_a_channel_that_hangs_would_cost_the_run_its_result(
    seconds_left: int, sent: int, world: AuctionWorld, run: FakeRun
) -> None:
    alert = Alert(Severity.ERROR, "dex_trigger_archive", "run 1", "2 of 120 clients failed")
    Outbox(lambda: world.s3, BUCKET, clock=lambda: outside.now() - 60).put("sns", alert)
    run.start_date = begun(RUN - seconds_left).start_date
    run.states[WAIT_TASK] = "skipped"
    with pytest.raises(AirflowSkipException, match=r"^wait_for_results was skipped$"):
        summarize(run)
    assert len(world.wire.sns) == sent


@pytest.mark.parametrize("channel", ["slack", "sns"])
def test_of_very_many_alerts_that_a_channel_did_not_take_some_are_left_to_later_runs(
    channel: str, world: AuctionWorld, run: FakeRun
) -> None:
    world.wire.slack_is_down, world.wire.sns_is_down = channel == "slack", channel == "sns"
    world.change_settings(max_mapped_orders=1, orders_per_task=1000)
    world.give(*["rejected"] * (MOST_KEPT + 1))
    process_all(run, wait_for_results(run))
    summarize(run)
    assert len(world.s3.present("alerts/undelivered/")) == MOST_KEPT
    assert len(world.s3.present(f"alerts/undelivered/{channel}/")) == MOST_KEPT
    world.wire.slack_is_down = world.wire.sns_is_down = False
    summarize(run)
    assert len(getattr(world.wire, channel)) == 1, "a summary that is cleared sends the others"


def test_orders_that_have_expired_are_not_replaced_by_new_ones(world: AuctionWorld, run: FakeRun) -> None:
    world.give("accepted")
    process_all(run, wait_for_results(run))
    summarize(run)
    summary = world.document("summaries/")
    for key in world.s3.keys("runs/"):
        world.s3.delete(key)
    for _ in range(2):
        run.clear_number += 1
        with pytest.raises(StorageRefusedError, match=r"orders\.json are gone .* start a new run"):
            begin(run)
        summary_fails(run)
    assert len(world.functions.asked(A)) == 1
    assert world.document("summaries/") == summary, "it is the one that tells of the orders"


@pytest.mark.parametrize("storage_works", [True, False])
def test_failed_wait_leaves_a_summary_where_it_can_and_is_reported_once(
    storage_works: bool, world: AuctionWorld, run: FakeRun
) -> None:
    if not storage_works:
        fail_papers(world, "PutObject", ".json")
        world.s3.before["ListObjectsV2"] = raising(s3_error("SlowDown", "ListObjectsV2"))
    run.states[WAIT_TASK] = "failed"
    summary_fails(run, "no order was processed: wait_for_results failed")
    assert (len(world.wire.sns), len(world.wire.slack)) == (1, 1)
    if storage_works:
        summary = world.document("summaries/")
        assert summary["total"] == 0
        assert "wait_for_results failed: the task was killed" in summary["reason"]
        assert run.pushed(SUMMARY_TASK, "return_value")["reason"] == summary["reason"]


def test_wait_that_somebody_marked_as_success_is_reported(world: AuctionWorld, run: FakeRun) -> None:
    run.states[WAIT_TASK] = "success"
    summary_fails(run, "wait_for_results was marked as success, but has no results")
    assert "marked as success" in world.wire.sns[0]["Message"]


def test_accepted_order_counts_although_its_cleared_task_died(world: AuctionWorld, run: FakeRun) -> None:
    world.give("accepted")
    process_all(run, wait_for_results(run))
    run.clear_number += 1
    run.states[f"{ORDER_TASK}_0"] = "failed"
    assert summarize(run)["accepted"] == 1


@pytest.mark.parametrize("status", ["accepted", "rejected"])
def test_notes_that_cannot_be_read_change_nothing(status: str, world: AuctionWorld, run: FakeRun) -> None:
    world.give(status)
    process_all(run, wait_for_results(run))
    fail_papers(world, "GetObject", "alerts.json")
    assert summarize(run)[status] == 1
    assert len(world.wire.sns) == (status == "rejected")


def test_slack_that_cannot_be_read_counts_as_a_channel_that_refused(
    world: AuctionWorld, run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = BaseHook.get_connection

    def broken(*arguments: Any) -> Any:
        if arguments[-1] == SLACK_CONNECTION:
            raise RuntimeError("the store broke")
        return real(arguments[-1])

    world.give("rejected")
    process_all(run, wait_for_results(run))
    monkeypatch.setattr(BaseHook, "get_connection", broken)
    summarize(run)
    assert world.metrics[0][1]["UndeliveredAlerts"] == 1.0


def test_each_of_our_attempts_is_one_message_to_sns(world: AuctionWorld, run: FakeRun) -> None:
    world.wire.sns_is_down = True
    world.give("rejected")
    process_all(run, wait_for_results(run))
    summarize(run)
    assert world.wire.sns_attempts == ATTEMPTS


@pytest.mark.parametrize(("more", "truncated"), [(0, None), (1, True)])
def test_summary_in_xcom_is_cut_and_says_so(
    more: int, truncated: bool | None, world: AuctionWorld, run: FakeRun
) -> None:
    world.change_settings(max_mapped_orders=1, orders_per_task=2000)
    world.give(*["accepted"] * (XCOM_ORDERS + more))
    process_all(run, wait_for_results(run))
    summary = summarize(run)
    assert (summary["accepted"], len(summary["keys"])) == (XCOM_ORDERS + more, XCOM_ORDERS)
    assert summary.get("truncated") is truncated
    assert len(world.document("summaries/")["keys"]) == XCOM_ORDERS + more
