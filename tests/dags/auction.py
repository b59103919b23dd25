"""The steps of an auction run, each as a task runs it, without Airflow around it."""

from __future__ import annotations

from typing import Any

from airflow_ext.tasks import energy_auction
from airflow_ext.triggers import lambda_result
from airflow_ext.triggers.lambda_result import Wait, Work
from include.auction.alerts import ORDER_TASK, WAIT_TASK
from include.errors import OrdersFailedError
from tests.worlds.airflow import FakeRun
from tests.worlds.auction import A, B

SUMMARY_TASK = "summarize"


def begin(run: FakeRun) -> Wait | list[Work]:
    """What the sensor does in a worker."""
    with run.task(WAIT_TASK) as context:
        found = lambda_result.begin(context, A)
        if isinstance(found, list):
            # As Airflow pushes what a task returns.
            context["ti"].xcom_push(key="return_value", value=found)
        return found


def wait_for_results(run: FakeRun) -> list[Work]:
    """The first task, of a run that has results at once."""
    found = begin(run)
    assert isinstance(found, list)
    return found


def process(run: FakeRun, index: int, work: Work, *, try_number: int = 1) -> None:
    """One mapped task."""
    with run.task(ORDER_TASK, index, try_number=try_number) as context:
        energy_auction.process_orders(context, work, B)


def process_all(run: FakeRun, works: list[Work]) -> None:
    """Every mapped task; failures stay in the run, as in Airflow."""
    for index, work in enumerate(works):
        try:
            process(run, index, work)
        except OrdersFailedError:
            continue


def summarize(run: FakeRun) -> dict[str, Any]:
    """The last task."""
    return energy_auction.summarize(run.context(SUMMARY_TASK))
