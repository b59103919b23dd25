"""The tasks of ``energy_auction``: Airflow's context on one side, :mod:`include.auction` on the other."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException

from airflow_ext.defaults import operations_url, started_at
from airflow_ext.hooks.aws import AwsSession, lambda_client, s3_client
from airflow_ext.ids import ENERGY_AUCTION, XComKey
from airflow_ext.metrics import RunReport, log_links, succeeded, task_states
from airflow_ext.notifications.channels import AT_ONCE, open_channels, outbox
from airflow_ext.notifications.failure_callback import log_failure, record_alerted, record_failure, safe_text
from airflow_ext.outside import outside
from airflow_ext.settings import Settings, load_settings
from include.alerts import KILLED, Alert, RunRef, Section
from include.auction.alerts import ORDER_TASK, WAIT_TASK, DeliveryRecord, deliver, no_orders, order_alerts
from include.auction.deadlines import LAST_ORDER, RUN, RunDeadlines
from include.auction.functions import OrderFunction
from include.auction.keys import auction_day
from include.auction.models import Result, Summary, slice_of
from include.auction.run import AuctionRun, raise_for_orders, unfinished_runs
from include.clients.lambda_function import FunctionClient
from include.errors import FunctionRefusedError, PipelineError, WorkFailedError, describe

if TYPE_CHECKING:
    from airflow_ext.triggers.lambda_result import Work


log = logging.getLogger(__name__)

XCOM_ORDERS = 1000
"""Up to this many orders of a kind the summary in XCom names each; the one in S3 always does."""


WAITING_SECONDS = 30.0
"""Left of the run's time, so that it sends alerts that wait: a channel that hangs must not cost it its result."""

MOST_KEPT = 100
"""Alerts of a run and channel that later runs send: keeping each takes some milliseconds of the run's time."""


def process_orders(context: Context, work: Work, function_name: str) -> None:
    """Give one order, or one group of orders where there are very many, to Lambda B; a retry gives it the rest.

    Raises as :func:`include.mapped_work.raise_for_failures`.
    """
    ti, session = context["ti"], AwsSession()
    piece = slice_of(work["start"], work["stop"])
    concurrency = min(work["concurrency"], piece.size)
    with record_failure(ti):
        functions = FunctionClient(lambda_client(max_connections=concurrency, session=session))
        outcomes = AuctionRun.load(work["orders"], s3_client(session=session)).process_slice(
            piece,
            OrderFunction(
                functions, function_name, functools.cache(lambda: load_settings().rejection_errors), outside.sleep
            ),
            deadlines=RunDeadlines.of(started_at(context), outside.now),
            concurrency=concurrency,
            clear_number=context["dag_run"].clear_number or 0,
        )
    for outcome in outcomes:
        log.info(
            "order %d (id %s) %s: %s", outcome.index, outcome.order_id, outcome.result, outcome.key or outcome.reason
        )
    # Outside the block: the outcomes are saved, the summary needs no reason of this task's.
    with log_failure():
        raise_for_orders(outcomes)


def summarize(context: Context) -> dict[str, Any]:
    """Account for every order, save the summary, alert for each order that was not accepted.

    Returns the summary; it is in XCom also when the run fails or is skipped.

    Raises:
        WorkFailedError: an order ended as neither accepted nor rejected, or it is not known which orders there are.
        RunRefusedError: a person named a function that cannot be invoked.
        AirflowSkipException: there were no results.
    """
    with record_failure(context["ti"]):
        settings = load_settings()
        try:
            return _summarize(context, settings)
        finally:
            _finish_earlier(context, settings)
            if RunDeadlines.of(started_at(context), outside.now).left(RUN) > WAITING_SECONDS:
                RunReport(context, settings).send_waiting()


def _summarize(context: Context, settings: Settings) -> dict[str, Any]:
    report = RunReport(context, settings)
    waited = task_states(context, WAIT_TASK).get(WAIT_TASK)
    works = report.pull(WAIT_TASK)
    if waited == "success" and works is not None:
        return _account(context, settings, report, works)
    if waited != "skipped":
        _end_without_orders(context, settings, report, waited)
    reason = report.pull(WAIT_TASK, XComKey.NO_RESULTS) or f"{WAIT_TASK} was skipped"
    summary = _without_orders(context, reason)
    key = _save(settings, summary)
    report.about(summary.day)
    _count(report, summary)
    report.note(f"No orders: {reason}", summary=key)
    _push(report, summary, key)
    raise AirflowSkipException(reason)


def _account(context: Context, settings: Settings, report: RunReport, works: Sequence[Work]) -> dict[str, Any]:
    orders = report.pull(WAIT_TASK, XComKey.ORDERS)
    slices = [slice_of(work["start"], work["stop"]) for work in works]
    run = AuctionRun.load(orders["uri"], s3_client())
    summary = run.account(
        slices,
        clear_number=report.clear_number,
        planned_at=orders["clear_number"],
        succeeded=succeeded(task_states(context, ORDER_TASK), ORDER_TASK, len(slices)),
        why_no_outcome=lambda index: report.failure(ORDER_TASK, index),
    )
    report.about(summary.day)
    alerts = order_alerts(report.run, summary, slices)
    undelivered, channels = _send(context, settings, alerts, run)
    # Afterwards: if the run is cut off before, the next one finds it without a summary, and sends its alerts.
    key = _save(settings, summary)
    if alerts:
        record_alerted(context, channels)
    _count(report, summary, undelivered=undelivered)
    document, counts = _push(report, summary, key), summary.counts
    report.note(
        f"{counts['accepted']:,} of {counts['total']:,} orders accepted",
        section=Section.AUCTION_RUN if counts["errored"] else Section.UNDELIVERED_ALERTS if undelivered else None,
        rejected=counts["rejected"],
        failed=counts["errored"],
        alerts_not_delivered=undelivered,
        summary=key,
    )
    if counts["errored"]:
        raise WorkFailedError(
            f"{counts['errored']} of {counts['total']} orders failed and {counts['rejected']} were rejected; see {key}"
        )
    report.update_asset({**counts, "summary": key})
    return document


def _end_without_orders(context: Context, settings: Settings, report: RunReport, waited: str | None) -> NoReturn:
    report.raise_refusal(WAIT_TASK, "no order was processed", FunctionRefusedError)
    if waited == "success":
        reason = f"{WAIT_TASK} was marked as success, but has no results; clear it"
    else:
        reason = f"{WAIT_TASK} failed: {report.failure(WAIT_TASK) or KILLED}"
    summary = _without_orders(context, reason)
    _count(report, None)
    # Lambda B may have them: the trigger gives them to it before the task goes on.
    left = _has_orders_left(settings, summary)
    what = "the next run finishes the orders that were found" if left else "no order was processed"
    report.alert(no_orders(report.run, what=what, reason=reason))
    report.note(f"{what[0].upper()}{what[1:]}: {reason}", section=Section.AUCTION_RUN)
    if not left:
        try:
            _push(report, summary, _save(settings, summary))
        except PipelineError as error:
            # The run fails anyway; a retry of this task would alert again.
            log.warning("the summary was not saved: %s", error)
    raise WorkFailedError(f"{what}: {reason}")


def _has_orders_left(settings: Settings, summary: Summary) -> bool:
    """Whether the run has orders that a later run accounts for, as far as that can be read."""
    try:
        return summary.run_id in unfinished_runs(s3_client(), settings.order_results_bucket, [summary.day])
    except PipelineError as error:
        log.warning("orders of the run cannot be looked for: %s", error)
        return False


def _without_orders(context: Context, reason: str) -> Summary:
    dag_run = context["dag_run"]
    day = auction_day(logical_date=dag_run.logical_date, run_after=dag_run.run_after)
    return Summary(dag_run.run_id, day, reason=reason)


def _save(settings: Settings, summary: Summary) -> str:
    """Save the summary in S3; its key."""
    log.info("orders: %s", ", ".join(f"{number} {what}" for what, number in summary.counts.items()))
    return summary.save(s3_client(), settings.order_results_bucket)


def _push(report: RunReport, summary: Summary, key: str) -> dict[str, Any]:
    """Push the summary to XCom, after the alerts: its numbers and first orders where it is long, and its key."""
    document = summary.to_document()
    short = {name: document[name][:XCOM_ORDERS] for name in ("keys", "not_accepted")}
    truncated = {"truncated": True} if any(len(document[name]) > XCOM_ORDERS for name in short) else {}
    return report.push({**document, **short, **truncated, "summary": key})


def _send(context: Context, settings: Settings, alerts: Mapping[str, Alert], run: AuctionRun) -> tuple[int, set[str]]:
    """Send the alerts; how many messages were not delivered, and the channels that took any."""
    if not alerts:
        return 0, set()
    seconds = RunDeadlines.of(started_at(context), outside.now).alerts()
    channels = open_channels(context, topic_arn=settings.alerts_topic_arn, seconds=seconds, attempts=1)
    record = run.delivery_record()
    undelivered = deliver(
        alerts, channels, record, at_once=AT_ONCE, seconds=seconds, sleep=outside.sleep, clock=outside.monotonic
    )
    took = {channel for name in alerts for channel in record.channels_of(name)}
    if undelivered:
        _keep(settings, alerts, channels, record)
    return undelivered, took


def _keep(settings: Settings, alerts: Mapping[str, Alert], channels: Iterable[str], record: DeliveryRecord) -> None:
    """Leave alerts to later runs, as many as there is time for, and record them: a cleared summary sends the others."""
    for channel in channels:
        left = {name: alert for name, alert in alerts.items() if channel not in record.channels_of(name)}
        kept = outbox(settings).put(channel, *islice(left.values(), MOST_KEPT))
        for name in islice(left, len(kept)):
            record.add(name, channel)
    record.save()


def _count(report: RunReport, summary: Summary | None, *, undelivered: int = 0) -> None:
    """Publish the run's metrics; without a summary, the run failed before there were orders."""
    counts = {} if summary is None else summary.counts
    values = {f"{result.capitalize()}Orders": counts.get(result, 0) for result in Result}
    failed = summary is None or counts["errored"] > 0
    report.count({**values, "UndeliveredAlerts": undelivered}, failed=failed)


_UNDER_WAY = ["queued", "running"]

FINISH_SECONDS = 10.0
"""Left for orders, so that an earlier run is finished; else the next run does it."""


def _finish_earlier(context: Context, settings: Settings) -> None:
    """Finish runs of this and the last day that ended without a summary, as when a worker was lost.

    Never raises: whatever happens here, the result of this run stands. What fails is left to the next run.
    """
    ti, dag_run = context["ti"], context["dag_run"]
    deadlines, bucket = RunDeadlines.of(started_at(context), outside.now), settings.order_results_bucket
    today = auction_day(logical_date=dag_run.logical_date, run_after=dag_run.run_after)
    try:
        for run_id, uri in unfinished_runs(s3_client(), bucket, (today - timedelta(days=1), today)).items():
            if run_id == dag_run.run_id or ti.get_dr_count(ENERGY_AUCTION, run_ids=[run_id], states=_UNDER_WAY):
                continue
            if deadlines.left(LAST_ORDER) < FINISH_SECONDS:
                log.warning("run %s ended without a summary; the next run finishes it", run_id)
                return
            log.warning("run %s ended without a summary: finishing it", run_id)
            try:
                _finish(context, settings, AuctionRun.load(uri, s3_client()), deadlines)
            except Exception as error:  # noqa: BLE001 - it must not keep the runs after it from being finished
                log.warning("run %s could not be finished: %s", run_id, safe_text(describe(error)))
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("earlier runs could not be finished: %s", safe_text(describe(error)))


def _finish(context: Context, settings: Settings, run: AuctionRun, deadlines: RunDeadlines) -> None:
    concurrency = settings.auction_concurrency
    slices = run.orders.cut(max_tasks=settings.max_mapped_orders, per_task=settings.orders_per_task)
    functions = FunctionClient(lambda_client(max_connections=concurrency))
    function_name = run.orders.function or context["params"]["function_b"]
    function = OrderFunction(functions, function_name, lambda: settings.rejection_errors, outside.sleep)
    summary = run.finish(slices, function, deadlines=deadlines, concurrency=concurrency)
    run_id = summary.run_id
    page = operations_url(ENERGY_AUCTION, summary.day)
    ref = RunRef(ENERGY_AUCTION, run_id, log_links(context, run_id), settings.runbook_url, page)
    undelivered, _ = _send(context, settings, order_alerts(ref, summary, slices), run)
    _save(settings, summary)
    _count(RunReport(context, settings), summary, undelivered=undelivered)
