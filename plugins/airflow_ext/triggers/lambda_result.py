"""Waiting for the results of the auction: what the sensor does in a worker, and its trigger in the triggerer."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any, NoReturn, TypedDict

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_ext.defaults import by_person, started_at
from airflow_ext.hooks.aws import AwsSession, lambda_client, s3_client
from airflow_ext.ids import XComKey
from airflow_ext.notifications.failure_callback import push_quietly, safe_text
from airflow_ext.outside import outside
from airflow_ext.settings import load_settings
from include import errors
from include.auction.deadlines import GRACE, RunDeadlines
from include.auction.functions import OrderFunction, ResultsPoller, pause_before
from include.auction.keys import auction_day, orders_key
from include.auction.models import Orders
from include.auction.run import AT_ONCE, AuctionRun
from include.clients.lambda_function import FunctionClient
from include.errors import PipelineError, TransientError, WorkFailedError
from include.mapped_work import Slice

log = logging.getLogger(__name__)


class Work(TypedDict):
    """What a mapped task gets: orders ``start`` to ``stop`` (exclusive) of those at ``s3://bucket/key``.

    Every task reads the whole list of these, so it is short.
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
        order_function: Lambda B.
        orders: of the run, ``s3://bucket/key``.
        day: UTC day of the run's keys, ``YYYY-MM-DD``.
        started: start of the run, Unix time.
        seconds: from the start, in which Lambda A is polled; the same however often the wait is resumed.
        max_tasks: most tasks for the run's orders; ``per_task`` is the size of the groups above that.
        concurrency: invocations of Lambda B that one task runs at once.
        polls: so far. A triggerer that is started again counts on from the worker's poll, so there may have been more.
        polled_at: the last of them ended, Unix time.
        failure: what was wrong at the last of them.
    """

    function_name: str
    order_function: str
    orders: str
    run_id: str
    day: str
    started: float
    clear_number: int
    seconds: int
    max_tasks: int
    per_task: int
    concurrency: int
    rejection_errors: Sequence[str]
    polls: int = 0
    polled_at: float = 0.0
    failure: str | None = None

    def poller(self) -> ResultsPoller:
        """Polls Lambda A; reads the connection, so not in an event loop."""
        session = AwsSession()
        functions = FunctionClient(lambda_client(max_connections=AT_ONCE, session=session))
        return ResultsPoller(
            s3_client(session=session),
            functions,
            self.function_name,
            self.orders,
            self.run_id,
            date.fromisoformat(self.day),
            self.order_function,
        )

    def pause(self, poller: ResultsPoller) -> float | None:
        """Seconds until the next poll, or None when the time is up; to save orders there is a little more of it.

        The time since the last poll counts, such as that of the way to the triggerer.
        """
        now = outside.now()
        left = self.started + self.seconds + (GRACE if poller.holds_orders else 0) - now
        if left <= 0:
            return None
        pause = pause_before(self.polls + 1)
        return min(left, pause, max(0.0, self.polled_at + pause - now))

    def poll(self, poller: ResultsPoller) -> Wait | Orders:
        """Poll once: the orders, or the wait as it stands now; a PermanentError if no further poll would help."""
        failure = None
        try:
            if (orders := poller.poll()) is not None:
                return orders
        except TransientError as error:
            failure = safe_text(f"{type(error).__name__}: {error}")
            log.warning("no results at poll %d: %s", self.polls + 1, failure)
        return replace(self, polls=self.polls + 1, polled_at=outside.now(), failure=failure)

    def cut(self, orders: Orders) -> list[Slice]:
        """The orders of each mapped task."""
        return orders.cut(max_tasks=self.max_tasks, per_task=self.per_task)

    def hand_over(self, orders: Orders, poller: ResultsPoller, stop: threading.Event) -> None:
        """Give the orders to Lambda B; never raises, as the mapped tasks do what is not done here."""
        function = OrderFunction(poller.functions, self.order_function, lambda: self.rejection_errors, outside.sleep)
        try:
            AuctionRun(poller.s3, self.orders, orders).hand_over(
                self.cut(orders),
                function,
                deadlines=RunDeadlines(self.started, outside.now),
                clear_number=self.clear_number,
                stop=stop,
            )
        except Exception as error:  # noqa: BLE001 - see above
            log.error("the orders are left to the mapped tasks: %s", type(error).__name__)


def begin(context: Context, function_name: str, order_function: str) -> Wait | list[Work]:
    """Look for the run's orders in S3, then poll Lambda A once.

    Returns the work of the mapped tasks, or how to go on waiting.

    Raises:
        AirflowSkipException: the time for results was up before.
        PipelineError: the settings or S3 cannot be read, or Lambda A cannot be used, or Lambda B in a person's run.
    """
    settings, dag_run = load_settings(), context["dag_run"]
    day = auction_day(logical_date=dag_run.logical_date, run_after=dag_run.run_after)
    wait = Wait(
        function_name=function_name,
        order_function=order_function,
        orders=f"s3://{settings.order_results_bucket}/{orders_key(day, dag_run.run_id)}",
        run_id=dag_run.run_id,
        day=day.isoformat(),
        started=RunDeadlines.of(started_at(context)).started,
        clear_number=dag_run.clear_number or 0,
        seconds=settings.auction_results_timeout,
        max_tasks=settings.max_mapped_orders,
        per_task=settings.orders_per_task,
        concurrency=settings.auction_concurrency,
        rejection_errors=list(settings.rejection_errors),
    )
    poller = wait.poller()
    if poller.find() is not None:
        log.info("the run has its orders already: Lambda A is not invoked")
        return cut_work(context, wait)
    if by_person(context):
        # Else the orders would find out, each with an alert.
        with contextlib.suppress(TransientError):
            poller.functions.check(order_function)
    if wait.pause(poller) is None:
        _end_without_orders(context, wait)
    found = wait.poll(poller)
    while isinstance(found, Wait) and poller.holds_orders:
        # They could not be saved, and cannot travel to the triggerer.
        if (pause := found.pause(poller)) is None:
            _end_without_orders(context, found)
        outside.sleep(pause)
        found = found.poll(poller)
    return found if isinstance(found, Wait) else cut_work(context, wait)


def end(context: Context, event: Event) -> list[Work]:
    """Go on with what the trigger found; an error has the class that it had there, which decides about the retry."""
    wait = Wait(**event["wait"])
    if event["error"] is not None:
        kind: type[PipelineError] = getattr(errors, event["error"]["kind"])
        raise kind(event["error"]["message"])
    if not event["ready"]:
        _end_without_orders(context, wait)
    return cut_work(context, wait)


def _end_without_orders(context: Context, wait: Wait) -> NoReturn:
    if wait.failure is not None:
        raise WorkFailedError(
            f"no results of {wait.function_name} within {wait.seconds} s, and the last known poll failed: "
            f"{wait.failure}"
        )
    reason = f"no results within {wait.seconds} s; invocations of {wait.function_name}: at least {wait.polls}"
    push_quietly(context["ti"], XComKey.NO_RESULTS, reason)
    raise AirflowSkipException(reason)


def cut_work(context: Context, wait: Wait) -> list[Work]:
    """Cut the run's orders into the work of its mapped tasks."""
    orders = Orders.load(s3_client(), wait.orders)
    slices = wait.cut(orders)
    log.info("%d orders in %d tasks", len(orders.items), len(slices))
    context["ti"].xcom_push(key=XComKey.ORDERS, value={"uri": wait.orders, "clear_number": wait.clear_number})
    return [
        Work(orders=wait.orders, start=piece.start, stop=piece.stop, concurrency=wait.concurrency) for piece in slices
    ]


Event = dict[str, Any]
"""What the trigger fires: references and numbers, never an order."""


def event_of(wait: Wait, *, ready: bool = False, error: PipelineError | None = None) -> Event:
    """What the trigger fires; :func:`end` takes it."""
    failed = None if error is None else {"kind": type(error).__name__, "message": safe_text(error)}
    return {"wait": asdict(wait), "ready": ready, "error": failed}


class LambdaResultTrigger(BaseTrigger):
    """Polls Lambda A until it has results, saves these in S3, gives the orders to Lambda B, and fires one event.

    Whatever blocks runs in threads of its own, so that neither the event loop nor other triggers ever wait for it. A
    triggerer that is started again resumes the wait with the same deadline. If it finds orders that were saved before
    it died, it leaves them to the mapped tasks, which resume from the outcomes that the dead one wrote.
    """

    def __init__(self, wait: dict[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's is untyped
        self.wait = Wait(**wait)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Path of this class and its argument."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"wait": asdict(self.wait)}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire once: results, no results, or why waiting makes no sense."""
        stop, thread = threading.Event(), ThreadPoolExecutor(1)
        try:
            yield TriggerEvent(await self._event(thread, stop))  # type: ignore[no-untyped-call] # Airflow's is untyped
        finally:
            stop.set()
            thread.shutdown(wait=False, cancel_futures=True)

    async def _event(self, thread: ThreadPoolExecutor, stop: threading.Event) -> Event:
        def run[T](function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
            # In this context: Airflow finds a trigger's log by it.
            context = contextvars.copy_context()
            return asyncio.get_running_loop().run_in_executor(thread, context.run, function, *arguments)

        wait = self.wait
        try:
            poller = await run(wait.poller)
            if await run(poller.find) is not None:
                return event_of(wait, ready=True)
            while (pause := wait.pause(poller)) is not None:
                await outside.pause(pause)
                found = await run(wait.poll, poller)
                if not isinstance(found, Wait):
                    await run(wait.hand_over, found, poller, stop)
                    return event_of(wait, ready=True)
                wait = found
        except PipelineError as error:
            return event_of(wait, error=error)
        except Exception as error:  # noqa: BLE001 - the task would fail without a reason, and without a retry
            # The type only: what raised is not ours, and may quote anything.
            what = f"waiting in the triggerer broke off: {type(error).__name__}"
            log.error("%s", what)
            return event_of(wait, error=TransientError(what))
        return event_of(wait)
