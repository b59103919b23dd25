"""Waiting for the results of the auction: what the sensor does in a worker and its trigger in the triggerer.

Waits in the triggerer until Lambda A has results.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict

from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_ext.hooks.aws import AwsSession, lambda_client, s3_client
from airflow_ext.ids import XComKey
from airflow_ext.notifications.failure_callback import push_quietly, safe_text
from airflow_ext.settings import load_settings
from include import errors
from include.auction.deadlines import GRACE, RunClock
from include.auction.keys import auction_day, orders_key
from include.auction.models import read_book
from include.auction.results import ResultsWatch, RunPlace, pause_before
from include.clients.lambda_function import FunctionClient
from include.errors import PipelineError, ResultsFailedError, TransientError

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class Work(TypedDict):
    """What a mapped task gets; every one of them reads the whole list of these, so it is short.

    Args:
        orders: where the run's orders lie, ``s3://bucket/key``.
        start: index of its first order.
        stop: index after its last.
        concurrency: invocations at once.
    """

    orders: str
    start: int
    stop: int
    concurrency: int


Event = dict[str, Any]
"""What the trigger fires: references and numbers, never an order."""


@dataclass(frozen=True)
class Wait:
    """One run's wait for results; JSON values, as it travels to the triggerer.

    Args:
        function_name: Lambda A.
        orders: where the run's orders belong, ``s3://bucket/key``.
        run_id: the run's id.
        day: UTC day of the run's papers, ``YYYY-MM-DD``.
        deadline: Lambda A is not asked after it, Unix time; the same however often the wait is taken up again.
        seconds: how long the run could wait in all, for people.
        polls: looks so far. A triggerer that is started again counts on from the worker's look, so there may have been
            more.
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

    def watch(self) -> ResultsWatch:
        """What asks Lambda A; reads the connection, so not in an event loop."""
        run = RunPlace(self.orders, self.run_id, date.fromisoformat(self.day))
        session = AwsSession()
        functions = FunctionClient(lambda_client(session=session))
        return ResultsWatch(s3_client(session=session), functions, self.function_name, run)

    def pause(self, watch: ResultsWatch) -> float | None:
        """Seconds until the next look, or None when the time is up; to keep orders there is a little more of it."""
        left = self.deadline + (GRACE if watch.holds_orders else 0) - time.time()
        return min(left, pause_before(self.polls + 1)) if left > 0 else None

    def look(self, watch: ResultsWatch) -> Wait | None:
        """Look once; None when the orders are there, else the wait as it stands now.

        Raises:
            PermanentError: no further look would help.
        """
        failure = None
        try:
            if watch.look() is not None:
                return None
        except TransientError as error:
            failure = safe_text(f"{type(error).__name__}: {error}")
            log.warning("no results at look %d: %s", self.polls + 1, failure)
        return replace(self, polls=self.polls + 1, failure=failure)


def begin(context: Context, function_name: str, *, sleep: Callable[[float], None] = time.sleep) -> Wait | list[Work]:
    """Look for the run's orders in S3, then at Lambda A.

    Args:
        context: that of the first task.
        function_name: Lambda A.
        sleep: waits for seconds.

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
        RunClock.of(dag_run.start_date).started + settings.auction_results_timeout,
        settings.auction_results_timeout,
    )
    watch = wait.watch()
    if watch.find() is not None:
        log.info("the run has its orders already: nobody is asked")
        return cut_work(context, wait.orders)
    if wait.pause(watch) is None:
        _end_without_orders(context, wait)
    waiting = wait.look(watch)
    while waiting is not None and watch.holds_orders:
        # They could not be kept, and cannot travel to the triggerer.
        if (pause := waiting.pause(watch)) is None:
            _end_without_orders(context, waiting)
        sleep(pause)
        waiting = waiting.look(watch)
    return waiting or cut_work(context, wait.orders)


def end(context: Context, event: Event) -> list[Work]:
    """Go on with what the trigger found.

    Raises:
        AirflowSkipException: there were no results.
        PipelineError: waiting failed.
    """
    wait = Wait(**event["wait"])
    if event["error"] is not None:
        raise _error(**event["error"])
    if not event["ready"]:
        _end_without_orders(context, wait)
    return cut_work(context, wait.orders)


def _end_without_orders(context: Context, wait: Wait) -> NoReturn:
    if wait.failure is not None:
        raise ResultsFailedError(
            f"no results of {wait.function_name} within {wait.seconds} s, and the last look that is known of failed: "
            f"{wait.failure}"
        )
    reason = f"no results within {wait.seconds} s; invocations of {wait.function_name}: at least {wait.polls}"
    push_quietly(context["ti"], XComKey.NO_RESULTS, reason)
    raise AirflowSkipException(reason)


def cut_work(context: Context, orders: str) -> list[Work]:
    """Cut the run's orders into the work of its mapped tasks."""
    settings = load_settings()
    book = read_book(s3_client(), orders)
    slices = book.cut(max_tasks=settings.max_mapped_orders, per_task=settings.orders_per_task)
    log.info("%d orders in %d tasks", len(book.orders), len(slices))
    context["ti"].xcom_push(
        key=XComKey.ORDERS, value={"place": orders, "clear_number": context["dag_run"].clear_number or 0}
    )
    return [
        Work(orders=orders, start=piece.start, stop=piece.stop, concurrency=settings.auction_concurrency)
        for piece in slices
    ]


def event_of(wait: Wait, *, ready: bool = False, error: PipelineError | None = None) -> Event:
    """What the trigger fires; :func:`end` takes it."""
    told = None if error is None else {"kind": type(error).__name__, "message": safe_text(error)}
    return {"wait": asdict(wait), "ready": ready, "error": told}


def _error(kind: str, message: str) -> PipelineError:
    """The error that was met in the triggerer, of its own class: its branch decides whether the task is retried."""
    found: type[PipelineError] = getattr(errors, kind)
    return found(message)


class LambdaResultTrigger(BaseTrigger):
    """Asks Lambda A now and then until it has results, keeps these in S3, and fires one event with references.

    Each look runs in a thread, one after another, so that the event loop is never held. A triggerer that is started
    again takes the wait up with the same deadline, and finds the orders if they were kept before it died.

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
        yield TriggerEvent(await self._outcome())  # type: ignore[no-untyped-call] # Airflow's is untyped

    async def _outcome(self) -> Event:
        wait = self.wait
        try:
            watch = await asyncio.to_thread(wait.watch)
            if await asyncio.to_thread(watch.find) is not None:
                return event_of(wait, ready=True)
            while (pause := wait.pause(watch)) is not None:
                await asyncio.sleep(pause)
                waiting = await asyncio.to_thread(wait.look, watch)
                if waiting is None:
                    return event_of(wait, ready=True)
                wait = waiting
        except PipelineError as error:
            return event_of(wait, error=error)
        except Exception as error:  # noqa: BLE001 - the task would fail without a word of why, and without a retry
            # The type only: what raised is not ours, and may quote anything.
            what = f"waiting in the triggerer broke off: {type(error).__name__}"
            log.error("%s", what)
            return event_of(wait, error=TransientError(what))
        return event_of(wait)
