"""The sensor's trigger: what it does in the triggerer's event loop."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException
from airflow.sdk.log import mask_secret

from airflow_ext.ids import XComKey
from airflow_ext.operators.lambda_result import LambdaResultSensor
from airflow_ext.triggers import lambda_result
from airflow_ext.triggers.lambda_result import Event, LambdaResultTrigger, Wait, event_of
from include.auction.deadlines import GRACE
from include.errors import (
    FunctionRefusedError,
    InvalidAnswerError,
    ResultsFailedError,
    StorageUnavailableError,
    TransientError,
)
from tests.worlds.airflow import FakeRun
from tests.worlds.auction import BUCKET, A, AuctionWorld, results
from tests.worlds.functions import RaisedError, lambda_error
from tests.worlds.s3 import s3_error

NOT_YET = {"results": False}
RUN = "manual__2026-03-08T06:00:00+00:00"


@pytest.fixture
def world() -> Iterator[AuctionWorld]:
    with AuctionWorld().attached() as world:
        yield world


def wait(*, seconds: float = 30, **more: Any) -> Wait:
    orders = f"s3://{BUCKET}/runs/2026/03/08/{RUN}/orders.json"
    return Wait(A, orders, RUN, "2026-03-08", time.time() + seconds, 240, **more)


def fire(waiting: Wait) -> Event:
    """What the trigger fires, after the journey that its arguments make."""

    async def only_event() -> Any:
        _, arguments = LambdaResultTrigger(asdict(waiting)).serialize()
        events = [event async for event in LambdaResultTrigger(**json.loads(json.dumps(arguments))).run()]
        (event,) = events
        return event.payload

    found: Event = json.loads(json.dumps(asyncio.run(only_event())))
    return found


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


def test_event_loop_is_not_held_while_the_function_runs(world: AuctionWorld) -> None:
    loop_went_on = threading.Event()

    def slow(payload: Any) -> Any:
        assert loop_went_on.wait(10)
        return results([])

    world.functions.functions[A] = slow

    async def both() -> None:
        trigger = LambdaResultTrigger(asdict(wait()))

        async def loop() -> None:
            while not world.functions.asked(A):
                await asyncio.sleep(0.001)
            loop_went_on.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(loop())
            event = await anext(aiter(trigger.run()))
        assert event.payload["ready"]

    asyncio.run(both())


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
    with pytest.raises(ResultsFailedError, match=f"no results of {A} within 240 s, and the last known poll failed"):
        resume(event)


def test_error_that_passed_is_forgotten(world: AuctionWorld) -> None:
    world.answer([lambda_error("ServiceException"), NOT_YET])
    with pytest.raises(AirflowSkipException):
        resume(fire(wait(seconds=9)))


def test_failure_of_the_workers_look_counts_when_there_was_no_other(world: AuctionWorld) -> None:
    with pytest.raises(ResultsFailedError, match="FunctionUnavailableError: it was throttled"):
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
def test_what_no_look_mends_ends_the_wait_at_once(answer: Any, error: type[Exception], world: AuctionWorld) -> None:
    world.answer([NOT_YET, answer, results([])])
    event = fire(wait())
    assert len(world.functions.asked(A)) == 2
    with pytest.raises(error, match=f"function {A}"):
        resume(event)


def refuse_orders(world: AuctionWorld, begun: Wait, *, until: float) -> None:
    """Let S3 fail until so many seconds after the deadline; each time takes three, and the first ends after it."""
    world.time.now = begun.deadline - 1

    def fail(request: object) -> None:
        if world.time() < begun.deadline + until:
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
    with pytest.raises(ResultsFailedError, match="StorageUnavailableError: cannot write"):
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
    sensor = LambdaResultSensor(task_id="wait_for_results", function_name=A)
    with pytest.raises(AirflowSensorTimeout):
        sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, run.context("wait_for_results"))
    assert run.pushed("wait_for_results", XComKey.FAILURE).startswith("AirflowSensorTimeout")


def test_sensor_that_is_skipped_leaves_no_failure() -> None:
    run = FakeRun()
    sensor = LambdaResultSensor(task_id="wait_for_results", function_name=A)
    with pytest.raises(AirflowSkipException):
        sensor.resume_execution("resume", {"event": event_of(wait(seconds=-1))}, run.context("wait_for_results"))
    assert run.pushed("wait_for_results", XComKey.FAILURE) is None


def test_storage_that_fails_at_the_start_is_left_to_the_tasks_retry(world: AuctionWorld) -> None:
    def fail(request: object) -> None:
        raise s3_error("SlowDown", "GetObject")

    world.s3.before["GetObject"] = fail
    with pytest.raises(StorageUnavailableError):
        resume(fire(wait()))


def test_masked_secret_in_a_functions_message_stays_out_of_the_event(world: AuctionWorld) -> None:
    secret = "masked-by-airflow-7f3a91"
    mask_secret(secret)
    world.answer([RaisedError("KeyError", f"login with {secret}")])
    event = fire(wait(seconds=9))
    assert "login with" in event["wait"]["failure"]
    assert secret not in json.dumps(event)
