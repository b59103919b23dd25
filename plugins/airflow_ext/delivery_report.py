"""What people and alarms are told of a run of ``event_delivery``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_ext.ids import EVENT_DELIVERY
from airflow_ext.notifications.alerts import send_alert
from airflow_ext.notifications.safety_net import leave_alerted
from airflow_ext.run_report import count_run, log_links
from include.delivery.alerts import failure_alerts, trouble_alert
from include.delivery.summary import metrics, summarize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_ext.settings import Settings
    from include.delivery.due import Due
    from include.delivery.summary import Tally


def report(
    context: Context, settings: Settings, due: Due | None, tallies: Sequence[Tally], troubles: Mapping[int | None, str]
) -> None:
    """Publish the run's metrics, and send an alert for what failed.

    Args:
        context: that of the summary task.
        settings: name topic and environment.
        due: what the run had to do; None if that could not be found out.
        tallies: what the tasks did, by map index.
        troubles: why tasks failed, by map index; None is the task that finds what is due.
    """
    run_id, log_url = context["dag_run"].run_id, log_links(context)
    alerts = list(failure_alerts(tallies, pipeline=EVENT_DELIVERY, run_id=run_id, log_url=log_url).values())
    if troubles:
        alerts.append(trouble_alert(troubles, pipeline=EVENT_DELIVERY, run_id=run_id, log_url=log_url))
    channels = [set(send_alert(alert, context, topic_arn=settings.alerts_topic_arn)) for alert in alerts]
    if channels:
        leave_alerted(context, set.intersection(*channels))
    count_run(context, metrics(due, summarize(tallies)), failed=bool(troubles), environment=settings.environment)
