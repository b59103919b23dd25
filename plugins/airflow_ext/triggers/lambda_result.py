"""Waiting for the results of the auction: what the sensor does in a worker, and its trigger in the triggerer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict

from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_ext.hooks.aws import AwsSession, lambda_client, s3_client
from airflow_ext.ids import XComKey
from airflow_ext.notifications.failure_callback import push_quietly, safe_text
from airflow_ext.outside import outside
from airflow_ext.settings import load_settings
from include import errors
from include.auction.deadlines import GRACE, RunDeadlines
from include.auction.keys import auction_day, orders_key
from include.auction.models import Orders
from include.auction.results import ResultsPoller, pause_before
from include.clients.lambda_function import FunctionClient
from include.errors import PipelineError, ResultsFailedError, TransientError

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class Work(TypedDict):
    """What a mapped task gets; every one of them reads the whole list of these, so it is short.

    Args:
        orders: of the run, ``s3://bucket/key``.
        start: index of its first order.
        stop: index after its last.
        concurrency: invocations at once.
    """

    orders: str
    start: int
    stop: int
    concurrency: int


@dataclass(frozen=True)
class Wait:
    """One run's wait for results; JSON values, as it travels to the triggerer.

    Args:
        function_name: Lambda A.
        orders: of the run, ``s3://bucket/key``.
        run_id: the run's id.
        day: UTC day of the run's keys, ``YYYY-MM-DD``.
        deadline: Lambda A is not polled after it, Unix time; the same however often the wait is resumed.
        seconds: how long the run could wait in all, for people.
        polls: so far. A triggerer that is started again counts on from the worker's poll, so there may have been more.
        failure: what was wrong at the last of them.
    """

    function_name: str
    orders: str
    run_id: str
    day: str
    deadline: float
    seconds: int
    polls: int = 0
    failure: str | None = None

    def poller(self) -> ResultsPoller:
        """Polls Lambda A; reads the connection, so not in an event loop."""
        session = AwsSession()
        functions = FunctionClient(lambda_client(session=session))
        day = date.fromisoformat(self.day)
        return ResultsPoller(s3_client(session=session), functions, self.function_name, self.orders, self.run_id, day)

    def pause(self, poller: ResultsPoller) -> float | None:
        """Seconds until the next poll, or None when the time is up; to save orders there is a little more of it."""
        left = self.deadline + (GRACE if poller.holds_orders else 0) - outside.now()
        return min(left, pause_before(self.polls + 1)) if left > 0 else None

    def poll(self, poller: ResultsPoller) -> Wait | None:
        """Poll once; None when the orders are there, else the wait as it stands now.

        Raises:
            PermanentError: no further poll would help.
        """
        failure = None
        try:
            if poller.poll() is not None:
                return None
        except TransientError as error:
            failure = safe_text(f"{type(error).__name__}: {error}")
            log.warning("no results at poll %d: %s", self.polls + 1, failure)
        return replace(self, polls=self.polls + 1, failure=failure)


def begin(context: Context, function_name: str) -> Wait | list[Work]:
    """Look for the run's orders in S3, then poll Lambda A once.

    Args:
        context: that of the first task.
        function_name: Lambda A.

    Returns:
        the work of the mapped tasks, or how to go on waiting.

    Raises:
        AirflowSkipException: the time for results was up before.
        PipelineError: the settings or S3 cannot be read, or Lambda A cannot be used.
    """
    settings, dag_run = load_settings(), context["dag_run"]
    day = auction_day(logical_date=dag_run.logical_date, run_after=dag_run.run_after)
    wait = Wait(
        function_name,
        f"s3://{settings.order_results_bucket}/{orders_key(day, dag_run.run_id)}",
        dag_run.run_id,
        day.isoformat(),
        RunDeadlines.of(dag_run.start_date).started + settings.auction_results_timeout,
        settings.auction_results_timeout,
    )
    poller = wait.poller()
    if poller.find() is not None:
        log.info("the run has its orders already: Lambda A is not invoked")
        return cut_work(context, wait.orders)
    if wait.pause(poller) is None:
        _end_without_orders(context, wait)
    waiting = wait.poll(poller)
    while waiting is not None and poller.holds_orders:
        # They could not be saved, and cannot travel to the triggerer.
        if (pause := waiting.pause(poller)) is None:
            _end_without_orders(context, waiting)
        outside.sleep(pause)
        waiting = waiting.poll(poller)
    return waiting or cut_work(context, wait.orders)


def end(context: Context, event: Event) -> list[Work]:
    """Go on with what the trigger found.

    Raises:
        AirflowSkipException: there were no results.
        PipelineError: waiting failed; of the class that it had in the triggerer, which decides about the retry.
    """
    wait = Wait(**event["wait"])
    if event["error"] is not None:
        kind: type[PipelineError] = getattr(errors, event["error"]["kind"])
        raise kind(event["error"]["message"])
    if not event["ready"]:
        _end_without_orders(context, wait)
    return cut_work(context, wait.orders)


def _end_without_orders(context: Context, wait: Wait) -> NoReturn:
    if wait.failure is not None:
        raise ResultsFailedError(
            f"no results of {wait.function_name} within {wait.seconds} s, and the last known poll failed: "
            f"{wait.failure}"
        )
    reason = f"no results within {wait.seconds} s; invocations of {wait.function_name}: at least {wait.polls}"
    push_quietly(context["ti"], XComKey.NO_RESULTS, reason)
    raise AirflowSkipException(reason)


def cut_work(context: Context, uri: str) -> list[Work]:
    """Cut the run's orders into the work of its mapped tasks."""
    settings = load_settings()
    orders = Orders.load(s3_client(), uri)
    slices = orders.cut(max_tasks=settings.max_mapped_orders, per_task=settings.orders_per_task)
    log.info("%d orders in %d tasks", len(orders.items), len(slices))
    clear_number = context["dag_run"].clear_number or 0
    context["ti"].xcom_push(key=XComKey.ORDERS, value={"uri": uri, "clear_number": clear_number})
    return [
        Work(orders=uri, start=piece.start, stop=piece.stop, concurrency=settings.auction_concurrency)
        for piece in slices
    ]


Event = dict[str, Any]
"""What the trigger fires: references and numbers, never an order."""


def event_of(wait: Wait, *, ready: bool = False, error: PipelineError | None = None) -> Event:
    """What the trigger fires; :func:`end` takes it."""
    failed = None if error is None else {"kind": type(error).__name__, "message": safe_text(error)}
    return {"wait": asdict(wait), "ready": ready, "error": failed}


class LambdaResultTrigger(BaseTrigger):
    """Polls Lambda A until it has results, saves these in S3, and fires one event with references.

    Each poll runs in a thread, one after another, so that the event loop is never blocked. A triggerer that is started
    again resumes the wait with the same deadline, and finds the orders if they were saved before it died.

    Args:
        wait: fields of :class:`~airflow_ext.triggers.lambda_result.Wait`.
    """

    def __init__(self, wait: dict[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's is untyped
        self.wait = Wait(**wait)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Path of this class and its argument."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"wait": asdict(self.wait)}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire once: results, no results, or why waiting makes no sense."""
        yield TriggerEvent(await self._event())  # type: ignore[no-untyped-call] # Airflow's is untyped

    async def _event(self) -> Event:
        wait = self.wait
        try:
            poller = await asyncio.to_thread(wait.poller)
            if await asyncio.to_thread(poller.find) is not None:
                return event_of(wait, ready=True)
            while (pause := wait.pause(poller)) is not None:
                await outside.pause(pause)
                waiting = await asyncio.to_thread(wait.poll, poller)
                if waiting is None:
                    return event_of(wait, ready=True)
                wait = waiting
        except PipelineError as error:
            return event_of(wait, error=error)
        except Exception as error:  # noqa: BLE001 - the task would fail without a reason, and without a retry
            # The type only: what raised is not ours, and may quote anything.
            what = f"waiting in the triggerer broke off: {type(error).__name__}"
            log.error("%s", what)
            return event_of(wait, error=TransientError(what))
        return event_of(wait)
