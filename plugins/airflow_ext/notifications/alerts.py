"""Send an alert through the providers' notifiers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError

from airflow_ext.ids import AWS_CONNECTION, SLACK_CONNECTION

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.alerts import Alert

log = logging.getLogger(__name__)

SLACK_TIMEOUT_SECONDS = 10


def send_alert(alert: Alert, context: Context, *, topic_arn: str | None) -> list[str]:
    """Send to the SNS topic and to Slack; never raises, so that it never hides the error it tells of.

    The notifiers' ``notify`` is called directly: calling the notifier would render the text as a Jinja template,
    and the text quotes other systems.

    Args:
        alert: what to say.
        context: the task's, or that of the DAG's callback.
        topic_arn: the topic, or None where the settings that name it cannot be read.

    Returns:
        the channels that took the alert.
    """
    channels: dict[str, Callable[[], None]] = {}
    if _slack_is_configured():
        channels["slack"] = lambda: _post(alert, context)
    if topic_arn is not None:
        channels["sns"] = lambda: _publish(alert, context, topic_arn)
    delivered = []
    for channel, send in channels.items():
        try:
            send()
        except Exception as error:  # noqa: BLE001 - see the next line
            # Whatever a provider raises, the other channel and the pipeline's own error must get through.
            log.error("alert was not delivered through %s: %s: %s", channel, type(error).__name__, error)
        else:
            delivered.append(channel)
    through = ", ".join(delivered) or "no channel"
    log.info("alert '%s' about run %s delivered through: %s", alert.subject, alert.run_id, through)
    return delivered


def _publish(alert: Alert, context: Context, topic_arn: str) -> None:
    from airflow.providers.amazon.aws.hooks.sns import SnsHook
    from airflow.providers.amazon.aws.notifications.sns import SnsNotifier
    from botocore.config import Config

    notifier = SnsNotifier(
        aws_conn_id=AWS_CONNECTION,
        target_arn=topic_arn,
        subject=alert.subject,
        message=alert.text,
        message_attributes={"pipeline": alert.pipeline, "severity": alert.severity.value},
    )
    # The notifier has no time-out of its own, and boto's would outlast the callback that may be waiting here.
    bounded = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
    notifier.hook = SnsHook(aws_conn_id=AWS_CONNECTION, config=bounded)  # type: ignore[no-untyped-call]
    notifier.notify(context)  # type: ignore[no-untyped-call] # the provider's API is untyped


def _post(alert: Alert, context: Context) -> None:
    from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

    # Slack reads these three characters as markup (its manual: formatting text).
    text = alert.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    SlackWebhookNotifier(slack_webhook_conn_id=SLACK_CONNECTION, text=text, timeout=SLACK_TIMEOUT_SECONDS).notify(
        context
    )  # type: ignore[no-untyped-call] # the provider's API is untyped


def _slack_is_configured() -> bool:
    try:
        return bool(BaseHook.get_connection(SLACK_CONNECTION).password)
    except (AirflowNotFoundException, AirflowRuntimeError):
        log.info("connection '%s' is not configured: no Slack message", SLACK_CONNECTION)
        return False
    except Exception as error:  # noqa: BLE001 - see the next line
        # Malformed, or its store broke in a way of its own: the other channel must still get through.
        log.error("connection '%s' cannot be read: %s", SLACK_CONNECTION, type(error).__name__)
        return False
