"""The second line: a run that failed without a word from its own summary task."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk._shared.secrets_masker import redact

from airflow_ext.ids import XComKey
from airflow_ext.notifications.alerts import send_alert
from airflow_ext.settings import load_settings
from include.alerts import Alert, Severity

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

log = logging.getLogger(__name__)

SUMMARY_TASK = "summarize"


@contextmanager
def failure_kept(ti: RuntimeTaskInstanceProtocol) -> Iterator[None]:
    """Leave the reason of a failure for the summary, which tells people once for the whole run."""
    try:
        yield
    except Exception as error:
        leave(ti, XComKey.FAILURE, redact(f"{type(error).__name__}: {error}")[:1000])
        raise


def leave(ti: RuntimeTaskInstanceProtocol, key: XComKey, value: Any) -> None:
    """Push an XCom entry that nothing may fail for: it only spares people a worse message."""
    try:
        ti.xcom_push(key=key, value=value)
    except Exception as error:  # noqa: BLE001 - whatever breaks here must not replace the error on its way
        log.error("XCom '%s' was not left: %s: %s", key, type(error).__name__, error)


def alert_unreported_failure(context: Context) -> None:
    """``on_failure_callback`` of a DAG: alert unless the run's summary did.

    Runs in the DAG processor when the run has failed, also when tasks were killed and no code of theirs ran.
    """
    dag_id, run_id = context["dag"].dag_id, str(context["run_id"])
    ti = context.get("ti")
    if ti is not None and _left_by_summary(ti, XComKey.ALERTED):
        log.info("run %s of %s failed; its summary has told people", run_id, dag_id)
        return
    try:
        topic_arn = load_settings().alerts_topic_arn
    except Exception as error:  # noqa: BLE001 - Slack needs no settings and must be told
        log.error("no SNS alert: %s: %s", type(error).__name__, error)
        topic_arn = None
    facts = [f"reason: {context.get('reason') or 'unknown'}"]
    if ti is not None:
        why = _left_by_summary(ti, XComKey.FAILURE)
        facts += [f"{SUMMARY_TASK}: {why}"] if why else []
        facts += [f"last task: {ti.task_id}", f"log: {ti.log_url}"]
    headline = "the run failed before its summary could tell anyone"
    send_alert(Alert(Severity.ERROR, dag_id, run_id, headline, facts), context, topic_arn=topic_arn)


def _left_by_summary(ti: RuntimeTaskInstanceProtocol, key: XComKey) -> Any:
    try:
        return ti.xcom_pull(task_ids=SUMMARY_TASK, key=key)
    except Exception as error:  # noqa: BLE001 - see the next line
        # Told twice is better than not told: whatever breaks here, the alert must go out.
        log.error("what '%s' left cannot be read: %s: %s", SUMMARY_TASK, type(error).__name__, error)
        return None
