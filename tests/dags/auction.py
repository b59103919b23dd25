"""The steps of an auction run, each as a task runs it, without Airflow around it."""

import asyncio
import json
from dataclasses import asdict
from typing import Any

import pytest

from airflow_ext.notifications.failure_callback import record_failure
from airflow_ext.tasks import energy_auction
from airflow_ext.triggers import lambda_result
from airflow_ext.triggers.lambda_result import Event, LambdaResultTrigger, Wait, Work
from include.auction.alerts import ORDER_TASK, WAIT_TASK
from include.errors import WorkFailedError
from tests.worlds.airflow import FakeRun
from tests.worlds.auction import A, B

SUMMARY_TASK = "summarize"


def fire(wait: Wait) -> Event:
    """What the trigger fires, after the journeys that its arguments and its event make."""

    async def only_event() -> Any:
        _, arguments = LambdaResultTrigger(asdict(wait)).serialize()
        (event,) = [event async for event in LambdaResultTrigger(**json.loads(json.dumps(arguments))).run()]
        return event.payload

    return json.loads(json.dumps(asyncio.run(only_event())))


def end(run: FakeRun, event: Event) -> list[Work]:
    """What the sensor does when the trigger has fired."""
    with run.task(WAIT_TASK) as context:
        works = lambda_result.end(context, event)
        context["ti"].xcom_push(key="return_value", value=works)
        return works


def begin(run: FakeRun) -> Wait | list[Work]:
    with run.task(WAIT_TASK) as context:
        with record_failure(context["ti"]):
            found = lambda_result.begin(context, A, B)
        if isinstance(found, list):
            # As Airflow pushes what a task returns.
            context["ti"].xcom_push(key="return_value", value=found)
        return found


def wait_for_results(run: FakeRun) -> list[Work]:
    found = begin(run)
    assert isinstance(found, list)
    return found


def process(run: FakeRun, index: int, work: Work, *, try_number: int = 1) -> None:
    with run.task(ORDER_TASK, index, try_number=try_number) as context:
        energy_auction.process_orders(context, work, B)


def process_all(run: FakeRun, works: list[Work]) -> None:
    """Every mapped task; failures stay in the run, as in Airflow."""
    for index, work in enumerate(works):
        try:
            process(run, index, work)
        except WorkFailedError:
            continue


def summarize(run: FakeRun) -> dict[str, Any]:
    return energy_auction.summarize(run.context(SUMMARY_TASK))


def summary_fails(run: FakeRun, says: str | None = None) -> None:
    """The last task, which fails the run, and why."""
    with pytest.raises(WorkFailedError, match=says):
        summarize(run)
