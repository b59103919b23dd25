"""The channel to Slack, through the provider's notifier; imported when there is something to tell, as it takes long."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook
from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from slack_sdk.http_retry import default_retry_handlers
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler

from airflow_ext.ids import SLACK_CONNECTION
from include.errors import SettingsError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from slack_sdk.http_retry.response import HttpResponse

    from airflow_ext.notifications.alerts import Channel
    from include.alerts import Alert

TIMEOUT_SECONDS = 5
_MAX_REPETITIONS = 50
"""More than there can be: the time ends them."""

log = logging.getLogger(__name__)


def open_slack(context: Context, *, seconds: float) -> Channel | None:
    """The channel, or None where nobody configured one.

    Args:
        context: the task's, or that of the DAG's callback.
        seconds: for how long the channel waits, from now on, when Slack asks to (it takes about a message a second).

    Raises:
        SettingsError: the connection cannot be read.
    """
    if not _is_configured():
        return None
    # When Slack's library sends a request again it logs where to, and that is a secret. Airflow hides it in the task's
    # log, but not in the copy that its worker prints.
    quiet = logging.getLogger("slack_sdk.webhook")
    quiet.setLevel(logging.WARNING)
    hook = SlackWebhookHook(
        slack_webhook_conn_id=SLACK_CONNECTION,
        timeout=TIMEOUT_SECONDS,
        retry_handlers=[*default_retry_handlers(), PatientUntil(time.monotonic() + seconds)],
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


class PatientUntil(RateLimitErrorRetryHandler):
    """Waits as long as Slack asks to (429, ``Retry-After``) and sends again, unless that would be too late.

    Args:
        end: when it is, on the clock of :func:`time.monotonic`.
    """

    def __init__(self, end: float) -> None:
        super().__init__(max_retry_count=_MAX_REPETITIONS)
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
