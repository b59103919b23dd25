import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException
from botocore.exceptions import NoRegionError

from airflow_ext.ids import ENERGY_AUCTION, XComKey
from airflow_ext.outside import outside
from airflow_ext.tasks import energy_auction
from airflow_ext.triggers.lambda_result import Wait
from include.auction.alerts import ORDER_TASK, WAIT_TASK
from include.auction.keys import order_id
from include.errors import (
    FunctionRefusedError,
    InvalidAnswerError,
    RetryableFailuresError,
    RunRefusedError,
    WorkFailedError,
)
from tests.dags.auction import SUMMARY_TASK, begin, process, process_all, summarize, summary_fails, wait_for_results
from tests.worlds.airflow import FakeRun
from tests.worlds.auction import BUCKET, A, AuctionWorld, B
from tests.worlds.functions import FakeLambda, Meeting, RaisedError, lambda_error
from tests.worlds.s3 import raising

NOT_YET = {"results": False}
UNAVAILABLE = lambda_error("ServiceException")


world = AuctionWorld.fixture()


@pytest.fixture
def run() -> FakeRun:
    """A run of 2026-03-08 that has just begun."""
    return FakeRun(dag_id=ENERGY_AUCTION, start_date=datetime.fromtimestamp(outside.now(), UTC))


def counts(summary: dict[str, Any]) -> Sequence[int]:
    return [summary[name] for name in ("total", "accepted", "rejected", "errored")]


def test_work_is_references_and_the_orders_stay_in_s3(world: AuctionWorld, run: FakeRun) -> None:
    world.give("accepted", "rejected")
    place = f"s3://{BUCKET}/runs/2026/03/08/{run.run_id}/orders.json"
    assert wait_for_results(run) == [
        {"orders": place, "start": 0, "stop": 1, "concurrency": 4},
        {"orders": place, "start": 1, "stop": 2, "concurrency": 4},
    ]
    assert world.document("runs/")["orders"][1]["status"] == "rejected"
    assert run.pushed(WAIT_TASK, XComKey.ORDERS) == {"uri": place, "clear_number": 0}


def test_wait_counts_from_the_start_of_the_run(world: AuctionWorld, run: FakeRun) -> None:
    world.change_settings(auction_results_timeout=100)
    world.answer([NOT_YET])
    found = begin(run)
    assert isinstance(found, Wait)
    assert (found.started, found.seconds) == (run.start_date.timestamp(), 100)
    assert (found.polls, found.failure) == (1, None)


def test_first_look_that_fails_is_no_failure_yet(world: AuctionWorld, run: FakeRun) -> None:
    world.answer([UNAVAILABLE])
    found = begin(run)
    assert isinstance(found, Wait)
    assert found.failure == (f"FunctionUnavailableError: cannot invoke function {A}: Lambda answered ServiceException")


def test_orders_that_are_kept_are_not_asked_for_again(world: AuctionWorld, run: FakeRun) -> None:
    world.give("accepted")
    works = wait_for_results(run)
    run.clear_number += 1
    world.answer([AssertionError("asked again")])
    assert wait_for_results(run) == works
    assert run.pushed(WAIT_TASK, XComKey.ORDERS)["clear_number"] == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [({"results": "yes"}, InvalidAnswerError), (lambda_error("ResourceNotFoundException"), FunctionRefusedError)],
    ids=str,
)
def test_what_no_poll_repairs_fails_at_the_first(
    answer: Any, error: type[Exception], world: AuctionWorld, run: FakeRun
) -> None:
    world.answer([answer])
    with pytest.raises(error):
        begin(run)


@pytest.mark.parametrize(("count", "tasks"), [(1, 1), (100, 100), (101, 3), (1200, 24)])
def test_many_orders_share_tasks(count: int, tasks: int, world: AuctionWorld, run: FakeRun) -> None:
    world.give(*["accepted"] * count)
    assert len(wait_for_results(run)) == tasks


def test_each_order_of_a_group_has_its_own_outcome_and_alert(world: AuctionWorld, run: FakeRun) -> None:
    world.change_settings(max_mapped_orders=2, orders_per_task=3)
    world.give("accepted", "rejected", "accepted", "unknown", "accepted", "rejected")
    works = wait_for_results(run)
    assert len(works) == 2
    process_all(run, works)
    summary_fails(run, "1 of 6 orders failed and 2 were rejected; see summaries/")
    assert counts(world.document("summaries/")) == [6, 3, 2, 1]
    assert len(world.orders()) == 3
    told = sorted(message["Subject"] for message in world.wire.sns)
    assert told == [
        "[ERROR] energy_auction: order 3 failed",
        "[WARNING] energy_auction: order 1 was rejected",
        "[WARNING] energy_auction: order 5 was rejected",
    ]
    assert len(world.wire.slack) == 3
    assert run.pushed(SUMMARY_TASK, XComKey.NOTE)[2] == "- what to do: docs/RUNBOOK.md#energy-auction-failed-run"
    assert "/tasks/process_order/mapped/1" in next(
        post["text"] for post in world.wire.slack if "order 5" in post["text"]
    )


def test_group_is_given_as_many_at_once_as_the_setting_allows(world: AuctionWorld, run: FakeRun) -> None:
    world.change_settings(max_mapped_orders=1, auction_concurrency=3)
    world.functions.functions[B] = meeting = Meeting(3)
    world.give(*["accepted"] * 6)
    process(run, 0, *wait_for_results(run))
    assert meeting.most == 3


def test_reason_of_a_rejected_order_is_the_first_error_in_its_log(
    world: AuctionWorld, run: FakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    world.give("rejected")
    with pytest.raises(WorkFailedError):
        process(run, 0, *wait_for_results(run))
    (error,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert error.startswith("WorkFailedError: 1 rejected of 1 orders: order 0: function auction-order raised Order")
    assert run.pushed(ORDER_TASK, XComKey.FAILURE, 0) is None, "its outcome says it"


def test_retry_gives_only_what_may_still_succeed_to_the_function(world: AuctionWorld, run: FakeRun) -> None:
    world.change_settings(max_mapped_orders=1)
    world.give("accepted", "accepted", "rejected")
    (work,) = wait_for_results(run)
    real, trouble = world.functions.functions[B], [UNAVAILABLE, UNAVAILABLE]

    def order(payload: Any) -> Any:
        if payload["power"] == 1 and trouble:
            raise trouble.pop()
        return real(payload)

    world.functions.functions[B] = order
    for try_number in (1, 2):
        with pytest.raises(RetryableFailuresError):
            process(run, 0, work, try_number=try_number)
    with pytest.raises(WorkFailedError, match="2 accepted, 1 rejected of 3 orders"):
        process(run, 0, work, try_number=3)
    assert sorted(payload["power"] for payload in world.functions.asked(B)) == [0, 1, 1, 1, 2]
    assert counts(summarize(run)) == [3, 2, 1, 0]


def test_good_run_ends_quietly_and_updates_the_asset(
    world: AuctionWorld, run: FakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.give("accepted", "accepted")
    process_all(run, wait_for_results(run))
    for index in (0, 1):
        place = f"orders/2026/03/08/order_{order_id(run.run_id, index)}.json"
        assert f"order {index} (id {order_id(run.run_id, index)}) accepted: {place}" in caplog.messages
    key = f"summaries/2026/03/08/{run.run_id}.json"
    assert summarize(run) == world.document("summaries/") | {"summary": key}
    assert world.document("summaries/")["keys"] == [
        f"orders/2026/03/08/order_{order_id(run.run_id, index)}.json" for index in (0, 1)
    ]
    assert run.outlet_events[Asset(ENERGY_AUCTION)].extra == {
        "total": 2,
        "accepted": 2,
        "rejected": 0,
        "errored": 0,
        "summary": key,
    }
    assert run.pushed(SUMMARY_TASK, XComKey.NOTE) == [
        "**2 of 2 orders accepted**",
        "",
        "- what to do: nothing",
        "- more: [operations page](http://localhost:8080/plugin/operations/orders?day=2026-03-08)",
        "- rejected: 0",
        "- failed: 0",
        "- alerts not delivered: 0",
        f"- summary: `{key}`",
    ]
    values = {"FailedRuns": 0.0, "AcceptedOrders": 2.0, "RejectedOrders": 0.0, "ErroredOrders": 0.0}
    assert world.metrics == [(ENERGY_AUCTION, values | {"UndeliveredAlerts": 0.0})]
    assert (world.wire.sns, world.wire.slack) == ([], [])


def test_scheduled_run_quiets_the_alarm_on_missing_runs(world: AuctionWorld, run: FakeRun) -> None:
    run.run_type = "scheduled"
    world.give()
    wait_for_results(run)
    assert counts(summarize(run)) == [0, 0, 0, 0]
    assert world.metrics[0][1]["ScheduledRuns"] == 1.0


def test_run_without_results_leaves_a_summary_and_no_asset_event(world: AuctionWorld, run: FakeRun) -> None:
    run.states[WAIT_TASK] = "skipped"
    run.xcoms.values[WAIT_TASK, XComKey.NO_RESULTS, None] = "no results within 240 s"
    with pytest.raises(AirflowSkipException, match=r"^no results within 240 s$"):
        summarize(run)
    assert world.document("summaries/")["reason"] == "no results within 240 s"
    assert counts(run.pushed(SUMMARY_TASK, "return_value")) == [0, 0, 0, 0]
    assert run.pushed(SUMMARY_TASK, XComKey.FAILURE) is None
    assert run.outlet_events == {}
    assert world.metrics[0][1]["FailedRuns"] == 0.0
    assert world.wire.sns == []


@pytest.mark.parametrize("missing", [A, B])
def test_person_who_names_a_function_that_is_not_there_is_refused_without_alert(
    missing: str, world: AuctionWorld, run: FakeRun
) -> None:
    world.give("accepted")
    del world.functions.functions[missing]
    with pytest.raises(FunctionRefusedError, match=f"invoke function {missing}"):
        begin(run)
    with pytest.raises(RunRefusedError, match="wait_for_results refused the run, no order was processed: Function"):
        summarize(run)
    assert (world.wire.sns, world.wire.slack, world.metrics) == ([], [], [])
    assert (world.functions.invocations, world.s3.keys()) == ([], [])
    assert run.pushed(SUMMARY_TASK, XComKey.NOTE)[0].startswith(
        "**Refused, no order was processed: FunctionRefusedError"
    )
    assert run.pushed(SUMMARY_TASK, XComKey.ALERTED)["channels"] == ["refusal"], "or the failure callback would alert"


def test_scheduled_run_whose_function_is_not_there_sends_an_alert(world: AuctionWorld, run: FakeRun) -> None:
    run.run_type = "scheduled"
    world.give("accepted")
    del world.functions.functions[A]
    with pytest.raises(FunctionRefusedError):
        begin(run)
    summary_fails(run)
    assert len(world.wire.sns) == 1


def test_scheduled_run_finds_the_orders_though_lambda_b_is_not_there(world: AuctionWorld, run: FakeRun) -> None:
    """Lambda A gives them once: each has its alert, and can be cleared when the function is back."""
    run.run_type = "scheduled"
    world.give("accepted")
    del world.functions.functions[B]
    process_all(run, wait_for_results(run))
    summary_fails(run, "1 of 1 orders failed")
    assert len(world.wire.sns) == 1


def test_person_s_run_begins_though_lambda_is_too_busy_to_say_whether_the_function_is_there() -> None:
    class Busy(FakeLambda):
        def invoke(self, **request: Any) -> dict[str, Any]:
            if request.get("InvocationType") == "DryRun":
                raise lambda_error("TooManyRequestsException")
            return super().invoke(**request)

    with AuctionWorld(functions=Busy()).attached() as world:
        world.give("accepted")
        run = FakeRun(dag_id=ENERGY_AUCTION, start_date=datetime.fromtimestamp(outside.now(), UTC))
        assert len(wait_for_results(run)) == 1


@pytest.mark.parametrize("state", ["failed", "upstream_failed", "removed", None])
def test_failed_wait_is_reported_once(state: str | None, world: AuctionWorld, run: FakeRun) -> None:
    run.states[WAIT_TASK] = state
    run.xcoms.values[WAIT_TASK, XComKey.FAILURE, None] = "InvalidAnswerError: the answer has no field 'results'"
    summary_fails(run, "wait_for_results failed: InvalidAnswerError")
    (message,), (post,) = world.wire.sns, world.wire.slack
    assert "no field 'results'" in message["Message"]
    assert "/tasks/wait_for_results" in post["text"]
    assert run.pushed(SUMMARY_TASK, XComKey.ALERTED) == {"clear_number": 0, "channels": ["slack", "sns"]}
    assert world.metrics[0][1]["FailedRuns"] == 1.0


def test_killed_task_is_accounted_for_and_reported(world: AuctionWorld, run: FakeRun) -> None:
    world.give("accepted", "accepted")
    works = wait_for_results(run)
    process(run, 0, works[0])
    run.states[f"{ORDER_TASK}_1"] = "failed"
    summary_fails(run, "1 of 2 orders failed")
    assert "order 1 (id " in world.wire.sns[0]["Message"]
    assert "no outcome: the task was killed" in world.wire.sns[0]["Message"]


def test_task_that_failed_before_its_first_order_says_why(world: AuctionWorld, run: FakeRun) -> None:
    world.give("accepted")
    works = wait_for_results(run)
    world.set_connection("aws_default", conn_type="aws", extra={})
    # Without the fake of Lambda a client is made, which needs a region.
    with outside.replaced(aws={"s3": world.s3}), pytest.raises(NoRegionError):
        process(run, 0, works[0])
    summary_fails(run)
    assert "NoRegionError, see the log" in world.document("summaries/")["not_accepted"][0]["reason"]


def test_cleared_run_stores_nothing_twice_and_alerts_nothing_twice(world: AuctionWorld, run: FakeRun) -> None:
    world.give("accepted", "rejected")
    process_all(run, wait_for_results(run))
    summarize(run)
    run.clear_number += 1
    process_all(run, wait_for_results(run))
    assert counts(summarize(run)) == [2, 1, 1, 0]
    assert len(world.functions.asked(A)) == 1
    assert len(world.functions.asked(B)) == 4
    assert [len(world.s3.bodies(key)) for key in world.orders()] == [1]
    assert (len(world.wire.sns), len(world.wire.slack)) == (1, 1)


def test_summary_that_is_killed_while_it_alerts_is_left_to_the_next_run(world: AuctionWorld, run: FakeRun) -> None:
    world.give("rejected")
    process_all(run, wait_for_results(run))
    with outside.replaced(monotonic=raising(KeyboardInterrupt)), pytest.raises(KeyboardInterrupt):
        summarize(run)
    assert world.s3.keys("summaries/") == []
    assert run.pushed(SUMMARY_TASK, XComKey.ALERTED) is None, "or the safety net would stay silent"


def test_alerts_are_sent_before_xcom_refuses_the_summary(
    world: AuctionWorld, run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.give("rejected")
    process_all(run, wait_for_results(run))
    context = run.context(SUMMARY_TASK)
    monkeypatch.setattr(context["ti"], "xcom_push", raising(RuntimeError("422")))
    assert counts(energy_auction.summarize(context)) == [1, 0, 1, 0]
    assert (len(world.wire.sns), len(world.wire.slack)) == (1, 1)


def test_another_lambda_b_stores_orders_without_a_key_and_rejects_with_its_own_error(
    world: AuctionWorld, run: FakeRun
) -> None:
    def order(payload: Any) -> Any:
        if payload["status"] == "rejected":
            raise RaisedError("ValueError", "the order was rejected")
        return {"statusCode": 200, "body": "stored"}

    world.functions.functions[B] = order
    world.change_settings(rejection_errors=["ValueError"])
    world.give("accepted", "rejected")
    works = wait_for_results(run)
    process(run, 0, works[0])
    with pytest.raises(WorkFailedError, match="ValueError: the order was rejected"):
        process(run, 1, works[1])
    assert counts(summarize(run)) == [2, 1, 1, 0]
    assert world.document("summaries/")["keys"] == []
    assert len(world.functions.asked(B)) == 2, "a rejected order is not tried again"
    assert [message["Subject"] for message in world.wire.sns] == ["[WARNING] energy_auction: order 1 was rejected"]


@pytest.mark.parametrize(
    ("sns_is_down", "slack_is_down"), [(True, False), (False, True), (True, True)], ids=["sns", "slack", "both"]
)
@pytest.mark.parametrize("status", ["rejected", "unknown"])
def test_channel_that_is_down_changes_no_result(
    status: str, sns_is_down: bool, slack_is_down: bool, world: AuctionWorld, run: FakeRun
) -> None:
    world.wire.sns_is_down, world.wire.slack_is_down = sns_is_down, slack_is_down
    world.give("accepted", status)
    process_all(run, wait_for_results(run))
    if status == "unknown":
        summary_fails(run, "1 of 2 orders failed")
    else:
        assert counts(summarize(run)) == [2, 1, 1, 0]
    assert (len(world.wire.sns), len(world.wire.slack)) == (not sns_is_down, not slack_is_down)
    assert world.metrics[0][1]["UndeliveredAlerts"] == sns_is_down + slack_is_down
    told = [name for name, down in (("slack", slack_is_down), ("sns", sns_is_down)) if not down]
    assert run.pushed(SUMMARY_TASK, XComKey.ALERTED)["channels"] == told


def test_an_alert_that_slack_did_not_take_is_sent_by_a_later_summary_once(world: AuctionWorld, run: FakeRun) -> None:
    world.wire.slack_is_down = True
    world.give("rejected")
    process_all(run, wait_for_results(run))
    summarize(run)
    assert (len(world.wire.sns), len(world.wire.slack)) == (1, 0)
    assert world.metrics[-1] == (ENERGY_AUCTION, {"UndeliveredAlerts": 1.0}), "the alarm goes on"
    world.wire.slack_is_down = False
    for _ in range(2):
        world.time.now += 60
        summarize(run)
    assert (len(world.wire.sns), len(world.wire.slack)) == (1, 1)
    assert "order 0 was rejected" in world.wire.slack[0]["text"]


def test_slack_that_is_not_configured_is_left_out(
    world: AuctionWorld, run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_ALERTS", '{"conn_type": "slackwebhook"}')
    world.give("rejected")
    process_all(run, wait_for_results(run))
    summarize(run)
    assert (len(world.wire.sns), len(world.wire.slack)) == (1, 0)
    assert world.metrics[0][1]["UndeliveredAlerts"] == 0.0
