"""Send alerts through the providers' notifiers."""

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

SLACK_TIMEOUT_SECONDS = 5

Channel = Callable[["Alert"], None]
"""Sends one alert, or raises whatever the provider raises; several threads may use it at once."""


def send_alert(alert: Alert, context: Context, *, topic_arn: str | None) -> list[str]:
    """Send to the SNS topic and to Slack; never raises, so that it never hides the error it tells of.

    Args:
        alert: what to say.
        context: the task's, or that of the DAG's callback.
        topic_arn: the topic, or None where the settings that name it cannot be read.

    Returns:
        the channels that took the alert.
    """
    delivered = []
    for channel, send in open_channels(context, topic_arn=topic_arn).items():
        try:
            send(alert)
        except Exception as error:  # noqa: BLE001 - see the next line
            # Whatever a provider raises, the other channel and the pipeline's own error must get through.
            log.error("alert was not delivered through %s: %s: %s", channel, type(error).__name__, error)
        else:
            delivered.append(channel)
    through = ", ".join(delivered) or "no channel"
    log.info("alert '%s' about run %s delivered through: %s", alert.subject, alert.run_id, through)
    return delivered


def open_channels(context: Context, *, topic_arn: str | None, at_once: int = 1) -> dict[str, Channel]:
    """The channels to tell people through, by name; never raises: a channel that cannot be opened refuses its alerts.

    Connection and client are looked up once, and each alert has a notifier of its own: a notifier keeps its text.
    Its ``notify`` is called directly: calling the notifier would render the text as a Jinja template, and the text
    quotes other systems.

    Args:
        context: the task's, or that of the DAG's callback.
        topic_arn: the topic, or None where the settings that name it cannot be read.
        at_once: how many alerts are sent through a channel at the same time.
    """
    channels: dict[str, Channel] = {}
    # First, as it needs no settings and SNS may keep an alert waiting.
    if _slack_is_configured():
        channels["slack"] = _opened(lambda: _slack(context))
    if topic_arn is not None:
        channels["sns"] = _opened(lambda: _sns(context, topic_arn, at_once))
    return channels


def _opened(open_channel: Callable[[], Channel]) -> Channel:
    try:
        return open_channel()
    except Exception as error:  # noqa: BLE001 - the channel's failure is told for each alert, as any other
        reason = error

        def refuse(alert: Alert) -> None:
            raise reason

        return refuse


def _sns(context: Context, topic_arn: str, at_once: int) -> Channel:
    from airflow.providers.amazon.aws.hooks.sns import SnsHook
    from airflow.providers.amazon.aws.notifications.sns import SnsNotifier

    from airflow_ext.hooks.aws import sns_client

    hook = SnsHook(aws_conn_id=AWS_CONNECTION)  # type: ignore[no-untyped-call] # the provider's API is untyped
    # The hook would make one without time-outs, and boto's would outlast the callback that may be waiting here.
    hook.conn = sns_client(max_connections=at_once)

    def publish(alert: Alert) -> None:
        notifier = SnsNotifier(
            aws_conn_id=AWS_CONNECTION,
            target_arn=topic_arn,
            subject=alert.subject,
            message=alert.text,
            message_attributes={"pipeline": alert.pipeline, "severity": alert.severity.value},
        )
        notifier.hook = hook
        notifier.notify(context)  # type: ignore[no-untyped-call] # the provider's API is untyped

    return publish


def _slack(context: Context) -> Channel:
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook
    from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

    # When Slack's library sends a request again it logs where to, and that is a secret. Airflow hides it in the task's
    # log, but not in the copy that its worker prints.
    quiet = logging.getLogger("slack_sdk.webhook")
    quiet.setLevel(logging.WARNING)
    hook = SlackWebhookHook(slack_webhook_conn_id=SLACK_CONNECTION, timeout=SLACK_TIMEOUT_SECONDS, logger=quiet)
    # Reads the connection, here and not in several threads at once.
    hook.get_conn()

    def post(alert: Alert) -> None:
        # Slack reads these three characters as markup (its manual: formatting text).
        text = alert.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        notifier = SlackWebhookNotifier(slack_webhook_conn_id=SLACK_CONNECTION, text=text)
        notifier.hook = hook
        notifier.notify(context)  # type: ignore[no-untyped-call] # the provider's API is untyped

    return post


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
