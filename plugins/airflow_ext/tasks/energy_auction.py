"""The tasks of ``energy_auction``: Airflow's context on one side, :mod:`include.auction` on the other.

What people, alarms and other DAGs are told of a run of ``energy_auction``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from airflow_ext.hooks.aws import AwsSession, lambda_client, s3_client
from airflow_ext.ids import ENERGY_AUCTION, XComKey
from airflow_ext.metrics import count_run, log_links, task_states
from airflow_ext.notifications.channels import AT_ONCE, open_channels, send_alert
from airflow_ext.notifications.failure_callback import record_alerted, record_failure
from airflow_ext.settings import load_settings
from include.auction.alerts import ORDER_TASK, WAIT_TASK, deliver, no_orders, order_alerts
from include.auction.deadlines import RunClock
from include.auction.keys import auction_day
from include.auction.models import Summary, keep_summary, slice_of
from include.auction.run import AuctionRun, raise_for_failures
from include.clients.lambda_function import FunctionClient
from include.errors import OrdersFailedError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_ext.settings import Settings
    from airflow_ext.triggers.lambda_result import Work
    from include.alerts import Alert
    from include.mapped_work import Slice

log = logging.getLogger(__name__)

XCOM_ORDERS = 1000
"""Up to this many orders of a kind the summary in XCom names each; the one in S3 always does."""


def report_orders(
    context: Context, settings: Settings, summary: Summary, slices: Sequence[Slice], run: AuctionRun
) -> None:
    """Send an alert for each order that was not accepted, and publish the run's metrics.

    Args:
        context: that of the summary task.
        settings: name the topic.
        summary: what became of the orders.
        slices: what the tasks were given.
        run: knows which alerts were delivered before.
    """
    alerts = order_alerts(summary, slices, pipeline=ENERGY_AUCTION, log_url=log_links(context))
    undelivered = _tell(context, settings, alerts, run) if alerts else 0
    count(context, settings, summary, undelivered=undelivered)


def report_no_orders(context: Context, settings: Settings, reason: str) -> None:
    """The same for a run whose results could not be read: one alert."""
    count(context, settings, None)
    alert = no_orders(
        pipeline=ENERGY_AUCTION, run_id=context["dag_run"].run_id, reason=reason, log_url=log_links(context)
    )
    record_alerted(context, send_alert(alert, context, topic_arn=settings.alerts_topic_arn))


def _tell(context: Context, settings: Settings, alerts: Mapping[str, Alert], run: AuctionRun) -> int:
    """Send the alerts; how many messages were not delivered."""
    seconds = RunClock.of(context["dag_run"].start_date).telling()
    channels = open_channels(context, topic_arn=settings.alerts_topic_arn, seconds=seconds, attempts=1)
    notes = run.notes()
    undelivered = deliver(alerts, channels, notes, at_once=AT_ONCE, seconds=seconds)
    record_alerted(context, {channel for name in alerts for channel in notes.channels_of(name)})
    return undelivered


def count(context: Context, settings: Settings, summary: Summary | None, *, undelivered: int = 0) -> None:
    """Publish the run's metrics.

    Args:
        context: that of the summary task.
        settings: name the environment.
        summary: what became of the orders; None if the run failed before there were any.
        undelivered: messages that a channel did not take.
    """
    counts = {"accepted": 0, "rejected": 0, "errored": 0} if summary is None else summary.counts
    values = {f"{what.capitalize()}Orders": float(counts[what]) for what in ("accepted", "rejected", "errored")}
    values["UndeliveredAlerts"] = float(undelivered)
    failed = summary is None or counts["errored"] > 0
    count_run(context, values, failed=failed, environment=settings.environment)


def xcom_summary(summary: Summary, key: str) -> dict[str, Any]:
    """What goes to XCom: the summary itself, or its numbers and first orders where it is long."""
    document = summary.to_document()
    short = {name: document[name][:XCOM_ORDERS] for name in ("keys", "not_accepted")}
    truncated = any(len(document[name]) > XCOM_ORDERS for name in short)
    return {**document, **short, **({"truncated": True} if truncated else {}), "summary": key}


def process_orders(context: Context, work: Work, function_name: str) -> None:
    """Give one order, or one group of orders where there are very many, to Lambda B.

    Raises:
        RetryableOrdersError: a retry may mend some that were not accepted; it gives only those to Lambda B again.
        OrdersFailedError: some were not accepted, and no retry mends it.
    """
    ti, session = context["ti"], AwsSession()
    piece = slice_of(work["start"], work["stop"])
    concurrency = min(work["concurrency"], piece.size)
    with record_failure(ti):
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
    with record_failure(context["ti"]):
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
