"""Processes that die at any step of an auction: each order is stored once, each alert sent once."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from airflow_ext.ids import ENERGY_AUCTION, XComKey
from airflow_ext.outside import outside
from airflow_ext.triggers import lambda_result
from airflow_ext.triggers.lambda_result import Wait
from include.auction.alerts import WAIT_TASK
from include.auction.deadlines import LAST_ORDER
from tests.dags.auction import (
    SUMMARY_TASK,
    begin,
    end,
    fire,
    process_all,
    summarize,
    summary_fails,
    wait_for_results,
)
from tests.worlds.airflow import FakeRun
from tests.worlds.auction import BUCKET, A, AuctionWorld, B, results
from tests.worlds.s3 import raising, s3_error

STATUSES = ["accepted", "rejected", "accepted", "rejected", "accepted"]


class Killed(BaseException):
    """The process is gone."""


def now() -> datetime:
    """In the time of the world that a test is in."""
    return datetime.fromtimestamp(outside.now(), UTC)


@contextmanager
def dying(world: AuctionWorld, at: int) -> Iterator[threading.Event]:
    """From its outside call number ``at`` on, the process makes none; calls of functions count before and after.

    Yields what is set when it is dead.
    """
    numbers, lock, dead = itertools.count(), threading.Lock(), threading.Event()

    def step(*arguments: Any) -> None:
        with lock:
            if next(numbers) >= at:
                dead.set()
                raise Killed

    def around(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def called(payload: Any) -> Any:
            step()
            answer = function(payload)
            step()
            return answer

        return called

    functions = dict(world.functions.functions)
    world.functions.functions |= {name: around(function) for name, function in functions.items()}
    world.s3.before |= dict.fromkeys(("GetObject", "PutObject"), step)
    try:
        yield dead
    finally:
        world.s3.before.clear()
        world.functions.functions |= functions


@pytest.mark.parametrize("group", [1, 2])
def test_triggerer_that_dies_at_any_step_costs_no_order_and_no_alert(group: int) -> None:
    for at in itertools.count():
        with AuctionWorld().attached() as world:
            if group > 1:
                world.change_settings(max_mapped_orders=1, orders_per_task=group)
            run = FakeRun(dag_id=ENERGY_AUCTION, start_date=now())
            world.answer([{"results": False}])
            waiting = begin(run)
            assert isinstance(waiting, Wait)
            world.give(*STATUSES)
            with dying(world, at) as dead, suppress(Killed):
                event = fire(waiting)
            if dead.is_set():
                event = fire(waiting)
            process_all(run, end(run, event))
            summary = summarize(run)
            assert (summary["accepted"], summary["rejected"], summary["errored"]) == (3, 2, 0), at
            assert [len(world.s3.bodies(key)) for key in world.orders()] == [1, 1, 1], at
            assert (len(world.wire.sns), len(world.wire.slack)) == (2, 2), at
            assert len(world.functions.asked(B)) <= 2 * len(STATUSES)
        if not dead.is_set():
            assert at > 2 * len(STATUSES), "it died at no step"
            assert len(world.functions.asked(A)) == 2
            assert len(world.functions.asked(B)) == len(STATUSES), "the tasks find their orders settled"
            return


def later(run: FakeRun, **more: Any) -> FakeRun:
    """The run five minutes later, which has no results; ``run`` has failed."""
    start = (run.start_date or now()) + timedelta(minutes=5)
    following = FakeRun(run_id="scheduled__later", dag_id=ENERGY_AUCTION, start_date=now(), **more)
    following.run_after = start
    following.other_runs = {run.run_id: "failed"} | following.other_runs
    following.states[WAIT_TASK] = "skipped"
    return following


def cut_off(world: AuctionWorld, *, processed: int) -> FakeRun:
    """A run whose worker is lost in a mapped task, so that its time is up before its summary."""
    run = FakeRun(dag_id=ENERGY_AUCTION, start_date=now(), run_after=now())
    world.give(*STATUSES)
    process_all(run, wait_for_results(run)[:processed])
    return run


def skipped(run: FakeRun) -> None:
    """The summary of a run without results."""
    with pytest.raises(AirflowSkipException):
        summarize(run)


def summary_of(world: AuctionWorld, run: FakeRun) -> dict[str, Any] | None:
    (key,) = [key for key in world.s3.keys("summaries/") if run.run_id in key] or [None]
    return None if key is None else json.loads(world.s3.bodies(key)[-1] or b"")


@pytest.mark.parametrize("processed", range(len(STATUSES) + 1))
def test_next_run_finishes_and_reports_what_a_lost_worker_left_open(processed: int) -> None:
    with AuctionWorld().attached() as world:
        run = cut_off(world, processed=processed)
        assert world.wire.sns == []
        skipped(later(run))
        summary = summary_of(world, run)
        assert [summary[name] for name in ("total", "accepted", "rejected", "errored")] == [5, 3, 2, 0]
        assert [len(world.s3.bodies(key)) for key in world.orders()] == [1, 1, 1]
        assert (len(world.wire.sns), len(world.wire.slack)) == (2, 2)
        assert all(run.run_id in message["Message"] for message in world.wire.sns)
        values = {"FailedRuns": 0.0, "AcceptedOrders": 3.0, "RejectedOrders": 2.0, "ErroredOrders": 0.0}
        assert world.metrics[-1] == (ENERGY_AUCTION, values | {"UndeliveredAlerts": 0.0})
        assert len(world.functions.asked(B)) == len(STATUSES), "what is settled is not given to Lambda B again"
        skipped(later(run))
        assert (len(world.functions.asked(B)), len(world.wire.sns)) == (len(STATUSES), 2), "it is finished once"


def test_last_run_of_a_day_is_finished_by_the_first_of_the_next() -> None:
    with AuctionWorld().attached() as world:
        world.time.now = datetime(2026, 3, 8, 23, 55, tzinfo=UTC).timestamp()
        run = cut_off(world, processed=2)
        skipped(later(run))
        assert world.s3.keys("summaries/2026/03/08/") == [f"summaries/2026/03/08/{run.run_id}.json"]
        assert summary_of(world, run)["accepted"] == 3
        assert len(world.s3.keys("summaries/2026/03/09/")) == 1


def test_run_that_fails_after_its_orders_were_given_says_so_and_is_finished_by_the_next() -> None:
    """As when every worker that goes on with what the trigger found is lost."""
    with AuctionWorld().attached() as world:
        run = FakeRun(dag_id=ENERGY_AUCTION, start_date=now(), run_after=now())
        world.answer([{"results": False}, results(STATUSES)])
        found = begin(run)
        assert isinstance(found, Wait)
        assert fire(found)["ready"]
        assert len(world.functions.asked(B)) == len(STATUSES)
        run.states[WAIT_TASK] = "failed"
        summary_fails(run, "^the next run finishes the orders that were found: wait_for_results failed: the task was")
        assert summary_of(world, run) is None, "it would say that there was no order"
        (message,) = world.wire.sns
        assert "the next run finishes the orders that were found" in message["Subject"]
        skipped(later(run))
        assert summary_of(world, run)["accepted"] == len(world.orders()) == 3
        assert len(world.functions.asked(B)) == len(STATUSES)
        assert len(world.wire.sns) == 1 + STATUSES.count("rejected")


def test_run_with_a_summary_is_not_finished_on_a_day_of_more_runs_than_a_page_lists() -> None:
    with AuctionWorld().attached() as world:
        run = cut_off(world, processed=len(STATUSES))
        summarize(run)
        (key,) = world.s3.keys("summaries/")
        for number in range(1000):
            world.s3.put_object(Bucket=BUCKET, Key=key.replace(run.run_id, f"another__{number}"), Body=b"{}")
        skipped(later(run))
        assert len(world.s3.bodies(key)) == 1


def test_summary_that_dies_at_any_step_leaves_no_rejected_order_unreported() -> None:
    for at in itertools.count():
        with AuctionWorld().attached() as world:
            run = cut_off(world, processed=len(STATUSES))
            with dying(world, at) as dead, suppress(Killed):
                summarize(run)
            skipped(later(run))
            assert summary_of(world, run) is not None, at
            for index in (1, 3):
                told = [text for text in world.wire.sns if f"order {index} " in text["Message"]]
                assert 1 <= len(told) <= 2, at
        if not dead.is_set():
            assert at > 2, "it died at no step"
            return


def test_result_of_the_run_that_finishes_another_is_its_own() -> None:
    with AuctionWorld().attached() as world:
        run = cut_off(world, processed=2)
        following = later(run)
        skipped(following)
        assert following.pushed(SUMMARY_TASK, XComKey.ALERTED) is None, "its own failure would not be alerted"
        summary = summary_of(world, following)
        assert summary["total"] == 0


@pytest.mark.parametrize("state", ["queued", "running"])
def test_run_that_is_under_way_is_left_alone(state: str) -> None:
    with AuctionWorld().attached() as world:
        run = cut_off(world, processed=2)
        skipped(later(run, other_runs={run.run_id: state}))
        assert summary_of(world, run) is None
        assert len(world.functions.asked(B)) == 2


def test_run_without_time_leaves_the_earlier_one_to_the_next() -> None:
    with AuctionWorld().attached() as world:
        run = cut_off(world, processed=2)
        following = later(run)
        following.start_date = now() - timedelta(seconds=LAST_ORDER - 5)
        skipped(following)
        assert summary_of(world, run) is None
        skipped(later(run))
        assert summary_of(world, run) is not None


def test_orders_go_to_the_function_that_their_run_named() -> None:
    """Not to that of the run that finishes it, whose params may be others."""
    with AuctionWorld().attached() as world:
        world.functions.functions["mine"] = lambda order: {"key": "mine"}
        run = FakeRun(dag_id=ENERGY_AUCTION, start_date=now(), run_after=now())
        world.give("accepted")
        with run.task(WAIT_TASK) as context:
            lambda_result.begin(context, A, "mine")
        skipped(later(run, params={"function_b": B}))
        assert (len(world.functions.asked("mine")), len(world.functions.asked(B))) == (1, 0)


def test_earlier_run_that_cannot_be_finished_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with AuctionWorld().attached() as world:
        run = cut_off(world, processed=2)
        world.s3.before["ListObjectsV2"] = raising(s3_error("AccessDenied", "ListObjectsV2"))
        skipped(later(run))
        assert "earlier runs could not be finished: StorageRefusedError" in caplog.text


@pytest.mark.parametrize("damage", [None, b"no JSON"])
def test_earlier_run_whose_orders_are_gone_keeps_no_other_from_being_finished(damage: bytes | None) -> None:
    with AuctionWorld().attached() as world:
        # Its id comes first.
        lost = FakeRun("manual__lost", dag_id=ENERGY_AUCTION, start_date=now(), run_after=now())
        world.give("accepted")
        process_all(lost, wait_for_results(lost))
        (orders,) = [key for key in world.s3.keys("runs/") if key.endswith("manual__lost/orders.json")]
        if damage is None:
            world.s3.delete(orders)
        else:
            world.s3.put_object(Bucket=BUCKET, Key=orders, Body=damage)
        run = FakeRun("scheduled__1", "scheduled", dag_id=ENERGY_AUCTION, start_date=lost.start_date)
        run.run_after = lost.run_after
        world.give(*STATUSES)
        process_all(run, wait_for_results(run)[:2])
        skipped(later(run))
        summary = summary_of(world, run)
        assert (summary["accepted"], summary["rejected"], summary["errored"]) == (3, 2, 0)


def test_run_that_dies_while_it_finishes_another_leaves_it_to_the_next() -> None:
    for at in itertools.count():
        with AuctionWorld().attached() as world:
            run = cut_off(world, processed=2)
            with dying(world, at) as dead, suppress(Killed):
                skipped(later(run))
            skipped(later(run))
            summary = summary_of(world, run)
            assert summary is not None, at
            assert (summary["accepted"], summary["rejected"], summary["errored"]) == (3, 2, 0), at
            assert [len(world.s3.bodies(key)) for key in world.orders()] == [1, 1, 1], at
            # At least once: the record of what was delivered may be what was not written.
            assert len(world.wire.sns) in (2, 4), at
        if not dead.is_set():
            assert at > len(STATUSES)
            return
