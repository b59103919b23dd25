"""The channels to people, SNS and Slack, through the providers' notifiers; each independent of the other."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook
from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
from airflow.sdk import BaseHook, Context
from airflow.sdk.exceptions import AirflowNotFoundException
from slack_sdk.http_retry import default_retry_handlers
from slack_sdk.http_retry.handler import RetryHandler
from slack_sdk.webhook import WebhookClient, WebhookResponse

from airflow_ext.defaults import alert_topic
from airflow_ext.hooks.aws import s3_client, sns_client
from airflow_ext.ids import AWS_CONNECTION, SLACK_CONNECTION
from airflow_ext.outside import outside
from airflow_ext.settings import Settings
from include.alerts import Alert, Send
from include.errors import ApiRefusedError, NoResponseError, SettingsError, describe
from include.outbox import Outbox

if TYPE_CHECKING:
    from slack_sdk.http_retry.response import HttpResponse
    from slack_sdk.http_retry.state import RetryState

log = logging.getLogger(__name__)

AT_ONCE = {"slack": 1, "sns": 4}
"""Alerts that may be on their way through each channel. Slack takes about one a second, however many wait."""

_SLACK_TIMEOUT_SECONDS = 5
_SLACK_MAX_RETRIES = 50
"""More than there can be: the time ends them."""


def send_alerts(
    alerts: Sequence[Alert], context: Context, *, topic_arn: str | None, keep: Callable[..., object] | None = None
) -> list[list[str]]:
    """Send to the channels, and return those that took each alert; never raises, so that it hides no error.

    A channel that refuses an alert is given none of those that follow: each might hold the run up as long as the first.
    Context and topic are as of :func:`open_channels`; ``keep`` is given a channel and the alerts that it did not take,
    once all others are sent.
    """
    taken: list[list[str]] = []
    left: dict[str, list[Alert]] = {}
    for alert in alerts:
        delivered = []
        # Anew for each alert, which has its own time to wait for Slack.
        for channel, send in open_channels(context, topic_arn=topic_arn).items():
            if channel not in left:
                try:
                    send(alert)
                except Exception as error:  # noqa: BLE001 - see the next line
                    # Whatever a provider raises, the other channel and the pipeline's own error must get through.
                    log.warning("alert was not delivered through %s: %s", channel, describe(error))
                else:
                    delivered.append(channel)
                    continue
            left.setdefault(channel, []).append(alert)
        through = ", ".join(delivered) or "no channel"
        log.info("alert '%s' about run %s delivered through: %s", alert.subject, alert.run_id, through)
        taken.append(delivered)
    if keep is not None:
        for channel, waiting in left.items():
            keep(channel, *waiting)
    return taken


def outbox(settings: Settings) -> Outbox:
    """Where alerts wait that a channel did not take."""
    return Outbox(s3_client, settings.order_results_bucket, clock=outside.now)


def open_channels(
    context: Context, *, topic_arn: str | None, seconds: float = 10.0, attempts: int = 2
) -> dict[str, Send]:
    """The channels by name; never raises: a channel that cannot be opened refuses its alerts.

    Connection and client are looked up once, and each alert has a notifier of its own: a notifier keeps its text.
    Its ``notify`` is called directly: calling the notifier would render the text as a Jinja template, and the text
    quotes other systems.

    Args:
        context: the task's, or that of the DAG's callback.
        topic_arn: the topic, or None where the settings that name it cannot be read: then that of the option.
        seconds: for how long Slack is waited for when it asks to wait.
        attempts: how often SNS is tried for one alert; a sender that repeats alerts itself wants one.
    """
    channels: dict[str, Send] = {}
    topic = topic_arn or alert_topic()
    # First, as SNS may keep an alert waiting.
    if (slack := _opened(lambda: _slack(context, seconds))) is not None:
        channels["slack"] = slack
    if topic is not None and (sns := _opened(lambda: _sns(context, topic, attempts))) is not None:
        channels["sns"] = sns
    return channels


def _opened(open_channel: Callable[[], Send | None]) -> Send | None:
    try:
        return open_channel()
    except Exception as error:  # noqa: BLE001 - the channel's failure is logged for each alert, as any other
        reason = error

        def refuse(alert: Alert) -> None:
            raise reason

        return refuse


def _sns(context: Context, topic_arn: str, attempts: int) -> Send:
    from airflow.providers.amazon.aws.hooks.sns import SnsHook
    from airflow.providers.amazon.aws.notifications.sns import SnsNotifier

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


def _slack(context: Context, seconds: float) -> Send | None:
    """The channel, or None where nobody configured one; it waits for up to ``seconds`` in all when Slack asks to.

    An alert that takes five seconds longer counts as refused, and may come all the same.
    """
    if not _is_configured():
        return None
    # Slack's library logs where to it sends again, and why it cannot: the first is a secret, the second may quote it.
    # Airflow hides secrets in the task's log, but not in the copy that its worker prints.
    quiet = logging.getLogger("slack_sdk.webhook")
    quiet.setLevel(logging.CRITICAL)
    hook = SlackWebhookHook(
        slack_webhook_conn_id=SLACK_CONNECTION,
        timeout=_SLACK_TIMEOUT_SECONDS,
        retry_handlers=[*default_retry_handlers(), RetryUntil(outside.monotonic() + seconds)],
        logger=quiet,
    )
    # Reads the connection, here and not in several threads at once.
    hook.client = StatusOnlyClient(hook.get_conn())

    def post(alert: Alert) -> None:
        # Slack reads these three characters as markup (its manual: formatting text).
        text = alert.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        notifier = SlackWebhookNotifier(slack_webhook_conn_id=SLACK_CONNECTION, text=text)
        notifier.hook = hook
        # The library's time-out is of each address and each read: behind a firewall that drops packets one call takes
        # minutes, as Slack has many addresses. Such a call goes on without holding anybody up.
        thread, limit = ThreadPoolExecutor(1), seconds + _SLACK_TIMEOUT_SECONDS
        posting = thread.submit(notifier.notify, context)
        thread.shutdown(wait=False)
        try:
            posting.result(timeout=limit)
        except TimeoutError:
            raise NoResponseError(f"Slack did not answer within {limit:.0f} s") from None

    return post


class StatusOnlyClient(WebhookClient):
    """Slack's client; its errors and answers hold neither its URL, which is a secret, nor words of the other side."""

    def __init__(self, client: WebhookClient) -> None:
        from include.clients.connections import parse_url

        vars(self).update(vars(client))
        what = f"connection '{SLACK_CONNECTION}': the URL that host and password make"
        try:
            # Before the library sees it, which quotes what it cannot use.
            url = parse_url(client.url)
        except ValueError as error:
            raise SettingsError(f"{what} {error}") from None
        if url.scheme not in ("https", "http"):
            raise SettingsError(f"{what} must begin with https://")
        self.url = str(url)

    def send_dict(self, body: dict[str, Any], headers: dict[str, str] | None = None) -> WebhookResponse:
        """Send a message; returns the status and nothing else.

        Raises:
            NoResponseError: there was no answer.
            ApiRefusedError: it was not 200, or a page, such as that of a proxy's login.
        """
        from include.clients.connections import reason_of

        try:
            answer = super().send_dict(body, headers)
        except Exception as error:  # noqa: BLE001 - whatever it is quotes the URL
            reason = getattr(error, "reason", error)
            why = reason_of(reason if isinstance(reason, Exception) else error)
            raise NoResponseError(f"Slack did not answer: {why}") from None
        if answer.status_code != HTTPStatus.OK:
            raise ApiRefusedError(f"Slack answered {answer.status_code}")
        # The library follows a redirect, and asks there without the message.
        if (answer.body or "").lstrip().startswith("<"):
            raise ApiRefusedError("a page came in place of Slack's answer: the URL, or a proxy, led elsewhere")
        return WebhookResponse(url="", status_code=answer.status_code, body="", headers={})


class RetryUntil(RetryHandler):
    """Waits as long as Slack asks to (429, ``Retry-After``) and sends again, unless that would be after ``end``."""

    def __init__(self, end: float) -> None:
        super().__init__(max_retry_count=_SLACK_MAX_RETRIES)
        self._end = end

    def _can_retry(self, *, response: HttpResponse | None = None, **more: Any) -> bool:
        if response is None or response.status_code != HTTPStatus.TOO_MANY_REQUESTS:
            return False
        return _asked_pause(response) + 1 <= self._end - outside.monotonic()

    def prepare_for_next_attempt(self, *, state: RetryState, response: HttpResponse | None = None, **more: Any) -> None:
        """Wait, up to a second longer than asked: other senders were told the same."""
        if response is not None:
            state.next_attempt_requested = True
            outside.sleep(_asked_pause(response) + random.random())  # noqa: S311 - spreads load
            state.increment_current_attempt()


def _asked_pause(response: HttpResponse) -> float:
    """Seconds that Slack asks to wait; infinite if that cannot be read."""
    from include.clients.http import retry_after_seconds

    asked = next((value[0] for name, value in response.headers.items() if name.lower() == "retry-after"), "1")
    seconds = retry_after_seconds(asked, now=datetime.now(UTC))
    return math.inf if seconds is None else seconds


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
