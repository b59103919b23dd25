"""The tasks of ``energy_auction``: Airflow's context on one side, :mod:`include.auction` on the other."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from airflow_ext.auction_report import count, report_no_orders, report_orders, xcom_summary
from airflow_ext.hooks.aws import AwsSession, lambda_client, s3_client
from airflow_ext.ids import ENERGY_AUCTION, XComKey
from airflow_ext.notifications.safety_net import failure_kept
from airflow_ext.run_report import task_states
from airflow_ext.settings import load_settings
from include.auction.alerts import ORDER_TASK, WAIT_TASK
from include.auction.book import slice_of
from include.auction.keys import auction_day
from include.auction.run import AuctionRun, raise_for_failures
from include.auction.summary import Summary, keep_summary
from include.auction.times import RunClock
from include.clients.functions import FunctionClient
from include.errors import OrdersFailedError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_ext.auction_wait import Work
    from airflow_ext.settings import Settings

log = logging.getLogger(__name__)


def process_orders(context: Context, work: Work, function_name: str) -> None:
    """Give one order, or one group of orders where there are very many, to Lambda B.

    Raises:
        RetryableOrdersError: a retry may mend some that were not accepted; it gives only those to Lambda B again.
        OrdersFailedError: some were not accepted, and no retry mends it.
    """
    ti, session = context["ti"], AwsSession()
    piece = slice_of(work["start"], work["stop"])
    concurrency = min(work["concurrency"], piece.size)
    with failure_kept(ti):
        outcomes = AuctionRun.at(work["orders"], s3_client(session=session)).process_slice(
            piece,
            FunctionClient(lambda_client(max_connections=concurrency, session=session)),
            function_name,
            clock=RunClock.of(context["dag_run"].start_date),
            concurrency=concurrency,
            clear_number=context["dag_run"].clear_number or 0,
            resume=ti.try_number > 1,
        )
    # Outside the block: the outcomes are kept, the summary needs no word of this task's.
    raise_for_failures(outcomes)
    log.info("%s: %d accepted", piece.label, len(outcomes))


def summarize(context: Context) -> dict[str, Any]:
    """Account for every order, keep the summary, tell people of each that was not accepted.

    Returns:
        the summary; it is in XCom also when the run fails or is skipped.

    Raises:
        OrdersFailedError: an order ended as neither accepted nor rejected, or it is not known which orders there are.
        AirflowSkipException: there were no results.
    """
    with failure_kept(context["ti"]):
        settings = load_settings()
        waited = task_states(context, WAIT_TASK).get(WAIT_TASK)
        works = _pull(context, WAIT_TASK, "return_value")
        if waited == "success" and works is not None:
            return _account(context, settings, works)
        if waited != "skipped":
            _end_without_orders(context, settings, waited)
        reason = _pull(context, WAIT_TASK, XComKey.NO_RESULTS) or f"{WAIT_TASK} was skipped"
        summary = _without_orders(context, reason)
        _keep(context, settings, summary)
        count(context, settings, summary)
    # Outside the block: this is no failure.
    raise AirflowSkipException(reason)


def _end_without_orders(context: Context, settings: Settings, waited: str | None) -> NoReturn:
    if waited == "success":
        reason = f"{WAIT_TASK} was marked as success, but has no results; clear it"
    else:
        failure = _pull(context, WAIT_TASK, XComKey.FAILURE) or "the task was killed or never ran"
        reason = f"{WAIT_TASK} failed: {failure}"
    report_no_orders(context, settings, reason)
    try:
        _keep(context, settings, _without_orders(context, reason))
    except PipelineError as error:
        # The run fails anyway; a retry of this task would tell people again.
        log.error("the summary was not kept: %s", error)
    raise OrdersFailedError(f"no order was processed: {reason}")


def _without_orders(context: Context, reason: str) -> Summary:
    dag_run = context["dag_run"]
    day = auction_day(logical_date=dag_run.logical_date, run_after=dag_run.run_after)
    return Summary(dag_run.run_id, day, reason=reason)


def _account(context: Context, settings: Settings, works: Sequence[Work]) -> dict[str, Any]:
    ti, clear_number = context["ti"], context["dag_run"].clear_number or 0
    orders = _pull(context, WAIT_TASK, XComKey.ORDERS)
    slices = [slice_of(work["start"], work["stop"]) for work in works]
    states = task_states(context, ORDER_TASK)
    run = AuctionRun.at(orders["place"], s3_client())
    summary = run.account(
        slices,
        clear_number=clear_number,
        planned_at=orders["clear_number"],
        succeeded=[index for index in range(len(slices)) if states.get(f"{ORDER_TASK}_{index}") == "success"],
        why_no_outcome=lambda index: ti.xcom_pull(task_ids=ORDER_TASK, key=XComKey.FAILURE, map_indexes=index),
    )
    document = _keep(context, settings, summary)
    report_orders(context, settings, summary, slices, run)
    counts, key = summary.counts, document["summary"]
    if counts["errored"]:
        raise OrdersFailedError(
            f"{counts['errored']} of {counts['total']} orders failed and {counts['rejected']} were rejected; see {key}"
        )
    context["outlet_events"][Asset(ENERGY_AUCTION)].extra = {**counts, "summary": key}
    return document


def _keep(context: Context, settings: Settings, summary: Summary) -> dict[str, Any]:
    """Keep the summary in S3 and in XCom, where that of a task that fails or is skipped would not be otherwise."""
    key = keep_summary(s3_client(), settings.order_results_bucket, summary)
    document = xcom_summary(summary, key)
    context["ti"].xcom_push(key="return_value", value=document)
    log.info("orders: %s", ", ".join(f"{number} {what}" for what, number in summary.counts.items()))
    return document


def _pull(context: Context, task_id: str, key: str) -> Any:
    return context["ti"].xcom_pull(task_ids=task_id, key=key)
