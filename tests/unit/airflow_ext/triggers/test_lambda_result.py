"""The sensor's trigger: what it does in the triggerer's event loop."""

import asyncio
import contextvars
import json
import threading
from dataclasses import asdict
from typing import Any

import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException
from airflow.sdk.log import mask_secret

from airflow_ext.ids import XComKey
from airflow_ext.operators.energy_auction import LambdaResultSensor
from airflow_ext.outside import outside
from airflow_ext.triggers import lambda_result
from airflow_ext.triggers.lambda_result import Event, LambdaResultTrigger, Wait, event_of
from include.auction.deadlines import GRACE
from include.auction.functions import FIRST_PAUSE_SECONDS
from include.auction.run import AT_ONCE
from include.errors import (
    FunctionRefusedError,
    InvalidAnswerError,
    StorageUnavailableError,
    TransientError,
    WorkFailedError,
)
from tests.dags.auction import fire
from tests.worlds.airflow import FakeRun
from tests.worlds.auction import BUCKET, A, AuctionWorld, B, results
from tests.worlds.functions import RaisedError, lambda_error
from tests.worlds.s3 import raising, s3_error

NOT_YET = {"results": False}
RUN = "manual__2026-03-08T06:00:00+00:00"


world = AuctionWorld.fixture()


def wait(*, seconds: float = 30, **more: Any) -> Wait:
    """A wait with so many seconds left of its 240."""
    return Wait(
        function_name=A,
        order_function=B,
        orders=f"s3://{BUCKET}/runs/2026/03/08/{RUN}/orders.json",
        run_id=RUN,
        day="2026-03-08",
        started=outside.now() + seconds - 240,
        seconds=240,
        **{"clear_number": 0, "max_tasks": 100, "per_task": 50, "concurrency": 4, "rejection_errors": []} | more,
    )


def resume(event: Event, context: Context | None = None) -> list[lambda_result.Work]:
    return lambda_result.end(context or FakeRun().context("wait_for_results"), event)


def test_path_of_the_trigger_is_that_of_its_class() -> None:
    path, arguments = LambdaResultTrigger(asdict(wait(polls=3))).serialize()
    assert path == "airflow_ext.triggers.lambda_result.LambdaResultTrigger"
    assert arguments["wait"]["polls"] == 3


def test_looks_until_there_are_results_and_fires_references(world: AuctionWorld) -> None:
    world.answer([NOT_YET, NOT_YET, results(["accepted", "rejected"])])
    event = fire(wait(polls=1))
    assert event["ready"]
    assert "accepted" not in json.dumps(event), "an order in the event would be an order in Airflow's database"
    assert len(world.functions.asked(A)) == 3
    assert [(work["start"], work["stop"]) for work in resume(event)] == [(0, 1), (1, 2)]


def test_time_since_the_workers_poll_counts(world: AuctionWorld) -> None:
    """The way from the worker to the triggerer takes a second or two."""
    world.give()
    fire(wait(polls=1, polled_at=world.time() - 1.5))
    assert world.time.slept == [pytest.approx(FIRST_PAUSE_SECONDS - 1.5, abs=0.01)]


@pytest.mark.parametrize(("polled_ago", "pause"), [(0, FIRST_PAUSE_SECONDS), (60, 0), (-3600, FIRST_PAUSE_SECONDS)])
def test_pause_is_bounded_whatever_the_workers_clock_says(polled_ago: float, pause: float, world: AuctionWorld) -> None:
    world.give()
    fire(wait(polls=1, polled_at=world.time() - polled_ago))
    assert world.time.slept == [pytest.approx(pause, abs=0.01)]


def test_last_pause_ends_with_the_time(world: AuctionWorld) -> None:
    world.answer([NOT_YET])
    fire(wait(seconds=1, polls=5, polled_at=world.time()))
    assert world.time.slept == [pytest.approx(1, abs=0.01)]
    assert len(world.functions.asked(A)) == 1


def test_orders_are_given_to_lambda_b_before_the_event(world: AuctionWorld) -> None:
    world.answer([NOT_YET, results(["accepted", "rejected", "accepted"])])
    event = fire(wait(polls=1, clear_number=7))
    assert (len(world.orders()), len(world.functions.asked(B))) == (2, 3)
    outcomes = world.s3.keys(f"runs/2026/03/08/{RUN}/outcomes/")
    assert len(outcomes) == 3
    assert {world.document(key)["clear_number"] for key in outcomes} == {7}, "or the tasks would not resume from them"
    assert "accepted" not in json.dumps(event)


def test_what_polls_is_in_the_context_of_the_trigger_by_which_airflow_finds_its_log(world: AuctionWorld) -> None:
    trigger, seen = contextvars.ContextVar[str]("trigger"), list[str]()

    def results_function(payload: Any) -> Any:
        seen.append(trigger.get("none"))
        return results([])

    world.functions.functions[A] = results_function
    trigger.set("this one")
    fire(wait())
    assert seen == ["this one"]


def test_orders_that_were_saved_before_are_left_to_the_tasks(world: AuctionWorld) -> None:
    """By a triggerer that died, or that was taken for dead and is still at work."""
    world.give("accepted")
    fire(wait())
    asked = len(world.functions.asked(B))
    assert fire(wait())["ready"]
    assert len(world.functions.asked(B)) == asked == 1


def test_handover_that_fails_costs_nothing_but_time(world: AuctionWorld, caplog: pytest.LogCaptureFixture) -> None:
    world.give("accepted")
    event = fire(wait(max_tasks=0, per_task=0))
    assert event["ready"]
    assert "the orders are left to the mapped tasks: ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("function", [A, B])
async def test_event_loop_is_not_held_while_a_function_runs(function: str, world: AuctionWorld) -> None:
    """Nor are the threads that all triggers share."""
    loop_went_on, quick = threading.Event(), world.functions.functions[function]

    def slow(payload: Any) -> Any:
        assert loop_went_on.wait(60)
        return quick(payload)

    world.give(*["accepted"] * 100)
    world.functions.functions[function] = slow

    async def loop() -> None:
        while not world.functions.asked(function):
            await asyncio.sleep(0.001)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 60) == "free"
        loop_went_on.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(loop())
        event = await anext(aiter(LambdaResultTrigger(asdict(wait())).run()))
    assert event.payload["ready"]
    assert len(world.functions.asked(B)) == 100


def test_trigger_that_is_cancelled_begins_no_further_order(world: AuctionWorld) -> None:
    running, cancelled = threading.Semaphore(0), threading.Event()

    def slow(order: Any) -> Any:
        running.release()
        assert cancelled.wait(60)
        return {}

    world.give(*["accepted"] * 100)
    world.functions.functions[B] = slow

    async def cancel() -> None:
        async def consume() -> None:
            async for _ in LambdaResultTrigger(asdict(wait())).run():
                pass

        trigger = asyncio.create_task(consume())
        for _ in range(AT_ONCE):
            await asyncio.to_thread(running.acquire)
        trigger.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trigger
        cancelled.set()

    asyncio.run(cancel())
    assert len(world.functions.asked(B)) == AT_ONCE


def test_triggerer_that_starts_again_finds_what_it_kept_before_it_died(world: AuctionWorld) -> None:
    world.give("accepted")
    begun = wait()
    assert fire(begun)["ready"]
    assert fire(begun)["ready"]
    assert len(world.functions.asked(A)) == 1


def test_time_that_is_up_ends_the_wait_with_its_numbers(world: AuctionWorld) -> None:
    world.answer([NOT_YET])
    event = fire(wait(seconds=9, polls=1))
    polls = 1 + len(world.functions.asked(A))
    assert polls > 2
    run = FakeRun()
    with pytest.raises(AirflowSkipException, match=f"no results within 240 s; invocations of {A}: at least {polls}$"):
        resume(event, run.context("wait_for_results"))
    assert run.pushed("wait_for_results", XComKey.NO_RESULTS).startswith("no results within 240 s")


def test_deadline_that_has_passed_invokes_nothing(world: AuctionWorld) -> None:
    event = fire(wait(seconds=-1, polls=4))
    assert world.functions.asked(A) == []
    with pytest.raises(AirflowSkipException, match=f"{A}: at least 4$"):
        resume(event)


@pytest.mark.parametrize(
    "error", [lambda_error("TooManyRequestsException"), RaisedError("Sandbox.Timedout", "")], ids=str
)
def test_error_at_the_last_look_fails_for_good(error: Exception, world: AuctionWorld) -> None:
    world.answer([NOT_YET, error])
    event = fire(wait(seconds=9))
    with pytest.raises(WorkFailedError, match=f"no results of {A} within 240 s, and the last known poll failed"):
        resume(event)


def test_error_that_passed_is_forgotten(world: AuctionWorld) -> None:
    world.answer([lambda_error("ServiceException"), NOT_YET])
    with pytest.raises(AirflowSkipException):
        resume(fire(wait(seconds=9)))


def test_failure_of_the_workers_look_counts_when_there_was_no_other(world: AuctionWorld) -> None:
    with pytest.raises(WorkFailedError, match="FunctionUnavailableError: it was throttled"):
        resume(fire(wait(seconds=-1, polls=1, failure="FunctionUnavailableError: it was throttled")))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"orders": []}, InvalidAnswerError),
        (lambda_error("ResourceNotFoundException"), FunctionRefusedError),
        (lambda_error("AccessDeniedException"), FunctionRefusedError),
    ],
    ids=str,
)
def test_what_no_poll_repairs_ends_the_wait_at_once(answer: Any, error: type[Exception], world: AuctionWorld) -> None:
    world.answer([NOT_YET, answer, results([])])
    event = fire(wait())
    assert len(world.functions.asked(A)) == 2
    with pytest.raises(error, match=f"function {A}"):
        resume(event)


def refuse_orders(world: AuctionWorld, begun: Wait, *, until: float) -> None:
    """Let S3 fail until so many seconds after the deadline; each time takes three, and the first ends after it."""
    world.time.now = begun.started + begun.seconds - 1

    def fail(request: object) -> None:
        if world.time() < begun.started + begun.seconds + until:
            world.time.now += 3
            raise s3_error("SlowDown")

    world.s3.before["PutObject"] = fail


def test_orders_that_storage_refused_in_time_are_kept_a_little_later(world: AuctionWorld) -> None:
    world.give("accepted")
    begun = wait()
    refuse_orders(world, begun, until=GRACE / 2)
    event = fire(begun)
    assert event["ready"]
    assert len(world.functions.asked(A)) == 1
    assert len(resume(event)) == 1


def test_orders_that_storage_goes_on_to_refuse_fail_the_wait(world: AuctionWorld) -> None:
    world.give("accepted")
    begun = wait()
    refuse_orders(world, begun, until=3600)
    with pytest.raises(WorkFailedError, match="StorageUnavailableError: cannot write"):
        resume(fire(begun))
    assert len(world.functions.asked(A)) == 1


def test_unexpected_error_is_left_to_the_tasks_retry_and_not_quoted(
    world: AuctionWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.answer([RuntimeError("pl4nted")])
    event = fire(wait())
    with pytest.raises(TransientError, match=r"^waiting in the triggerer broke off: RuntimeError$"):
        resume(event)
    assert "broke off: RuntimeError" in caplog.text
    assert "pl4nted" not in caplog.text + json.dumps(event)


def test_trigger_that_does_not_speak_fails_the_task_with_a_reason() -> None:
    run = FakeRun()
    sensor = LambdaResultSensor(task_id="wait_for_results", function_name=A, order_function=B)
    with pytest.raises(AirflowSensorTimeout):
        sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, run.context("wait_for_results"))
    assert run.pushed("wait_for_results", XComKey.FAILURE).startswith("AirflowSensorTimeout")


def test_sensor_that_is_skipped_leaves_no_failure() -> None:
    run = FakeRun()
    sensor = LambdaResultSensor(task_id="wait_for_results", function_name=A, order_function=B)
    with pytest.raises(AirflowSkipException):
        sensor.resume_execution("resume", {"event": event_of(wait(seconds=-1))}, run.context("wait_for_results"))
    assert run.pushed("wait_for_results", XComKey.FAILURE) is None


def test_storage_that_fails_at_the_start_is_left_to_the_tasks_retry(world: AuctionWorld) -> None:
    world.s3.before["GetObject"] = raising(s3_error("SlowDown", "GetObject"))
    with pytest.raises(StorageUnavailableError):
        resume(fire(wait()))


def test_masked_secret_in_a_functions_message_stays_out_of_the_event(world: AuctionWorld) -> None:
    secret = "masked-by-airflow-7f3a91"
    mask_secret(secret)
    world.answer([RaisedError("KeyError", f"login with {secret}")])
    event = fire(wait(seconds=9))
    assert "login with" in event["wait"]["failure"]
    assert secret not in json.dumps(event)
