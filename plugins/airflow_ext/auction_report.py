"""What people, alarms and other DAGs are told of a run of ``energy_auction``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ext.ids import ENERGY_AUCTION
from airflow_ext.notifications.alerts import AT_ONCE, open_channels, send_alert
from airflow_ext.notifications.safety_net import leave_alerted
from airflow_ext.run_report import count_run, log_links
from include.auction.alerts import no_orders, order_alerts
from include.auction.notices import deliver
from include.auction.times import RunClock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_ext.settings import Settings
    from include.alerts import Alert
    from include.auction.run import AuctionRun
    from include.auction.summary import Summary
    from include.slices import Slice

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
    leave_alerted(context, send_alert(alert, context, topic_arn=settings.alerts_topic_arn))


def _tell(context: Context, settings: Settings, alerts: Mapping[str, Alert], run: AuctionRun) -> int:
    """Send the alerts; how many messages were not delivered."""
    seconds = RunClock.of(context["dag_run"].start_date).telling()
    channels = open_channels(context, topic_arn=settings.alerts_topic_arn, seconds=seconds, attempts=1)
    notes = run.notes()
    undelivered = deliver(alerts, channels, notes, at_once=AT_ONCE, seconds=seconds)
    leave_alerted(context, {channel for name in alerts for channel in notes.channels_of(name)})
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
