"""What people, alarms and other DAGs are told of a run of ``energy_auction``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ext.ids import ENERGY_AUCTION, XComKey
from airflow_ext.notifications.alerts import open_channels, send_alert
from airflow_ext.notifications.safety_net import leave
from airflow_ext.run_report import count_run, log_links
from include.auction.alerts import no_orders, order_alerts
from include.auction.notices import WORKERS, deliver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_ext.settings import Settings
    from include.auction.notices import DeliveryNotes
    from include.auction.summary import Summary
    from include.slices import Slice

XCOM_ORDERS = 5000
"""Up to this many orders the summary in XCom names each; the one in S3 always does."""


def report_orders(
    context: Context, settings: Settings, summary: Summary, slices: Sequence[Slice], notes: DeliveryNotes
) -> None:
    """Send an alert for each order that was not accepted, and publish the run's metrics.

    Args:
        context: that of the summary task.
        settings: name the topic.
        summary: what became of the orders.
        slices: what the tasks were given.
        notes: which alerts were delivered before.
    """
    alerts = order_alerts(summary, slices, pipeline=ENERGY_AUCTION, log_url=log_links(context))
    undelivered = 0
    if alerts:
        channels = open_channels(context, topic_arn=settings.alerts_topic_arn, at_once=WORKERS)
        undelivered = deliver(alerts, channels, notes)
        told = {channel for name in alerts for channel in notes.channels_of(name)}
        leave(context["ti"], XComKey.ALERTED, sorted(told))
    count(context, settings, summary, undelivered=undelivered)


def report_no_orders(context: Context, settings: Settings, reason: str) -> None:
    """The same for a run whose results could not be read: one alert."""
    count(context, settings, None)
    alert = no_orders(
        pipeline=ENERGY_AUCTION, run_id=context["dag_run"].run_id, reason=reason, log_url=log_links(context)
    )
    delivered = send_alert(alert, context, topic_arn=settings.alerts_topic_arn)
    leave(context["ti"], XComKey.ALERTED, delivered)


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
    return {**document, **short, "summary": key}
