"""The second line: a run that failed without a word from its own summary task."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk._shared.secrets_masker import redact
from airflow.sdk.exceptions import AirflowSkipException

from airflow_ext.ids import CALL_DETAILS_INGEST, CALL_DETAILS_REPLAY, CALL_DETAILS_WATCH, XComKey
from airflow_ext.settings import load_settings
from include.alerts import Alert, Severity

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

log = logging.getLogger(__name__)

SUMMARY_TASK = "summarize"
"""The task that tells people about its run, unless it is called differently."""

_OTHER_SUMMARY_TASKS = {
    CALL_DETAILS_WATCH: "claim_files",
    CALL_DETAILS_INGEST: "reconcile",
    CALL_DETAILS_REPLAY: "replay",
}


@contextmanager
def failure_kept(ti: RuntimeTaskInstanceProtocol) -> Iterator[None]:
    """Leave the reason of a failure for the summary, which tells people once for the whole run."""
    try:
        yield
    except AirflowSkipException:
        raise
    except Exception as error:
        leave(ti, XComKey.FAILURE, redact(f"{type(error).__name__}: {error}")[:1000])
        raise


def leave(ti: RuntimeTaskInstanceProtocol, key: XComKey, value: Any) -> None:
    """Push an XCom entry that nothing may fail for: it only spares people a worse message."""
    try:
        ti.xcom_push(key=key, value=value)
    except Exception as error:  # noqa: BLE001 - whatever breaks here must not replace the error on its way
        log.error("XCom '%s' was not left: %s: %s", key, type(error).__name__, error)


def leave_alerted(context: Context, channels: Iterable[str]) -> None:
    """Leave word, for the callback below, of the channels that took the run's alert in this life of the run."""
    clear_number = context["dag_run"].clear_number or 0
    leave(context["ti"], XComKey.ALERTED, {"clear_number": clear_number, "channels": sorted(channels)})


def alert_unreported_failure(context: Context) -> None:
    """``on_failure_callback`` of a DAG: alert unless the run's summary did.

    Runs in the DAG processor when the run has failed, also when tasks were killed and no code of theirs ran.
    """
    dag_id, run_id = context["dag"].dag_id, str(context["run_id"])
    summary = _OTHER_SUMMARY_TASKS.get(dag_id, SUMMARY_TASK)
    ti = context.get("ti")
    if ti is not None and _was_alerted(context, _left_by(summary, ti, XComKey.ALERTED)):
        log.info("run %s of %s failed; its summary has told people", run_id, dag_id)
        return
    try:
        topic_arn = load_settings().alerts_topic_arn
    except Exception as error:  # noqa: BLE001 - Slack needs no settings and must be told
        log.error("no SNS alert: %s: %s", type(error).__name__, error)
        topic_arn = None
    facts = [f"reason: {context.get('reason') or 'unknown'}"]
    if ti is not None:
        why = _left_by(summary, ti, XComKey.FAILURE)
        facts += [f"{summary}: {why}"] if why else []
        facts += [f"last task: {ti.task_id}", f"log: {ti.log_url}"]
    headline = "the run failed before its summary could tell anyone"
    # Here: the DAG files import this module, and Slack's provider takes a quarter of a second.
    from airflow_ext.notifications.channels import send_alert

    send_alert(Alert(Severity.ERROR, dag_id, run_id, headline, facts), context, topic_arn=topic_arn)


def _was_alerted(context: Context, alerted: dict[str, Any] | None) -> bool:
    """Whether a summary's word is of this life: that of an earlier one stays in XCom until the summary runs again."""
    if alerted is None or not alerted["channels"]:
        return False
    return bool(alerted["clear_number"] == (context["dag_run"].clear_number or 0))


def _left_by(task_id: str, ti: RuntimeTaskInstanceProtocol, key: XComKey) -> Any:
    try:
        return ti.xcom_pull(task_ids=task_id, key=key)
    except Exception as error:  # noqa: BLE001 - see the next line
        # Told twice is better than not told: whatever breaks here, the alert must go out.
        log.error("what '%s' left cannot be read: %s: %s", task_id, type(error).__name__, error)
        return None
