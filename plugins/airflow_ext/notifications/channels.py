"""The channels to people, SNS and Slack, through the providers' notifiers; each independent of the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook
from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from slack_sdk.http_retry import default_retry_handlers
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler

from airflow_ext.ids import AWS_CONNECTION, SLACK_CONNECTION
from include.errors import SettingsError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from slack_sdk.http_retry.response import HttpResponse

    from include.alerts import Alert

log = logging.getLogger(__name__)

AT_ONCE = {"slack": 1, "sns": 4}
"""Alerts that may be on their way through each channel. Slack takes about one a second, however many wait."""

_SLACK_TIMEOUT_SECONDS = 5
_SLACK_MAX_RETRIES = 50
"""More than there can be: the time ends them."""

Channel = Callable[["Alert"], None]
"""Sends one alert, or raises whatever the provider raises; several threads may use it at once."""


def send_alert(alert: Alert, context: Context, *, topic_arn: str | None) -> list[str]:
    """Send to the SNS topic and to Slack; never raises, so that it never hides the error that it reports.

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


def open_channels(
    context: Context, *, topic_arn: str | None, seconds: float = 10.0, attempts: int = 2
) -> dict[str, Channel]:
    """The channels by name; never raises: a channel that cannot be opened refuses its alerts.

    Connection and client are looked up once, and each alert has a notifier of its own: a notifier keeps its text.
    Its ``notify`` is called directly: calling the notifier would render the text as a Jinja template, and the text
    quotes other systems.

    Args:
        context: the task's, or that of the DAG's callback.
        topic_arn: the topic, or None where the settings that name it cannot be read.
        seconds: for how long Slack is waited for when it asks to wait.
        attempts: how often SNS is tried for one alert; a sender that repeats alerts itself wants one.
    """
    channels: dict[str, Channel] = {}
    # First, as it needs no settings and SNS may keep an alert waiting.
    if (slack := _opened(lambda: _slack(context, seconds))) is not None:
        channels["slack"] = slack
    if topic_arn is not None and (sns := _opened(lambda: _sns(context, topic_arn, attempts))) is not None:
        channels["sns"] = sns
    return channels


def _opened(open_channel: Callable[[], Channel | None]) -> Channel | None:
    try:
        return open_channel()
    except Exception as error:  # noqa: BLE001 - the channel's failure is logged for each alert, as any other
        reason = error

        def refuse(alert: Alert) -> None:
            raise reason

        return refuse


def _sns(context: Context, topic_arn: str, attempts: int) -> Channel:
    from airflow.providers.amazon.aws.hooks.sns import SnsHook
    from airflow.providers.amazon.aws.notifications.sns import SnsNotifier

    from airflow_ext.hooks.aws import sns_client

    hook = SnsHook(aws_conn_id=AWS_CONNECTION)  # type: ignore[no-untyped-call] # the provider's API is untyped
    # The hook would make one without time-outs, and boto's would outlast the callback that may be waiting here.
    hook.conn = sns_client(max_connections=AT_ONCE["sns"], attempts=attempts)

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


def _slack(context: Context, seconds: float) -> Channel | None:
    """The channel, or None where nobody configured one; it waits for up to ``seconds`` in all when Slack asks to."""
    if not _is_configured():
        return None
    # When Slack's library sends a request again it logs where to, and that is a secret. Airflow hides it in the task's
    # log, but not in the copy that its worker prints.
    quiet = logging.getLogger("slack_sdk.webhook")
    quiet.setLevel(logging.WARNING)
    hook = SlackWebhookHook(
        slack_webhook_conn_id=SLACK_CONNECTION,
        timeout=_SLACK_TIMEOUT_SECONDS,
        retry_handlers=[*default_retry_handlers(), RetryUntil(time.monotonic() + seconds)],
        logger=quiet,
    )
    # Reads the connection, here and not in several threads at once.
    hook.get_conn()

    def post(alert: Alert) -> None:
        # Slack reads these three characters as markup (its manual: formatting text).
        text = alert.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        notifier = SlackWebhookNotifier(slack_webhook_conn_id=SLACK_CONNECTION, text=text)
        notifier.hook = hook
        notifier.notify(context)  # type: ignore[no-untyped-call] # the provider's API is untyped

    return post


class RetryUntil(RateLimitErrorRetryHandler):
    """Waits as long as Slack asks to (429, ``Retry-After``) and sends again, unless that would be too late.

    Args:
        end: when it is, on the clock of :func:`time.monotonic`.
    """

    def __init__(self, end: float) -> None:
        super().__init__(max_retry_count=_SLACK_MAX_RETRIES)
        self._end = end

    def _can_retry(self, *, response: HttpResponse | None = None, **more: Any) -> bool:
        if response is None or not super()._can_retry(response=response, **more):
            return False
        asked = next((value[0] for name, value in response.headers.items() if name.lower() == "retry-after"), "1")
        # The library adds up to a second to what was asked for.
        return asked.isdecimal() and int(asked) + 1 <= self._end - time.monotonic()


def _is_configured() -> bool:
    try:
        password = BaseHook.get_connection(SLACK_CONNECTION).password
    except AirflowNotFoundException:
        password = None
    except Exception as error:  # noqa: BLE001 - of whatever store; not chained: it may quote the connection
        raise SettingsError(f"connection '{SLACK_CONNECTION}' cannot be read: {type(error).__name__}") from None
    if (password or "").strip():
        return True
    # Airflow says the same of a connection that its secrets backend could not give.
    log.info("connection '%s' is not configured, or not readable: no Slack message", SLACK_CONNECTION)
    return False
