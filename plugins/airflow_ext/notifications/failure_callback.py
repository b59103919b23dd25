"""What tasks record for their run's summary, and the alert of a run that failed before its summary could send one."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException, AirflowTaskTimeout
from airflow.sdk.log import mask_logs

from airflow_ext.defaults import by_person, operations_url, pause_seconds, unknown_key
from airflow_ext.ids import ALL_PIPELINES, CALL_DETAILS_INGEST, CALL_DETAILS_REPLAY, CALL_DETAILS_WATCH, XComKey
from airflow_ext.outside import outside
from airflow_ext.settings import load_settings
from include.alerts import RUNBOOK, Alert, Section, Severity, next_step
from include.errors import PausedError, describe
from include.text import one_line, printable_values

if TYPE_CHECKING:
    from types import FrameType

    from airflow.sdk import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

log = logging.getLogger(__name__)

MAX_REASON = 1000
"""Longest text about a failure that goes into Airflow's database."""

TIMED_OUT = (
    "AirflowTaskTimeout: the task reached its time limit (execution_timeout), so Airflow ended it; a retry goes on "
    "with what is left, and so does the task when it is cleared"
)

REFUSAL = "refusal"
"""Recorded in place of a channel where a run was refused, which who started it sees."""

_ENDINGS = {
    "timed_out": (
        "it was still going on at its time limit ({limit}), so Airflow ended it. A run that waits while its DAG is "
        "paused reaches the limit too, and ends when the DAG is unpaused. Cleared, it goes on where it stopped"
    ),
    "task_failure": "a task failed, was killed or was marked as failed, and no alert was sent by the run's last task",
    "all_tasks_deadlocked": "none of its tasks can start any more: one was removed or marked by hand",
}
"""What Airflow's reasons for the end of a run mean."""

SUMMARY_TASK = "summarize"
"""The task that sends a run's alert, unless it is called differently."""

_OTHER_SUMMARY_TASKS = {
    CALL_DETAILS_WATCH: "claim_files",
    CALL_DETAILS_INGEST: "reconcile",
    CALL_DETAILS_REPLAY: "replay",
}


def safe_text(text: object) -> str:
    """A text for XCom, a trigger's event or a task's label: secrets masked, printable, on one line of bounded length.

    Masked first: Airflow's masker does not find a secret in an escaped form.
    """
    # The processor of Airflow's own task logs; the function that it calls is in a private module.
    return one_line(str(mask_logs(None, "", {"event": str(text)})["event"]), MAX_REASON)


@contextmanager
def record_failure(ti: RuntimeTaskInstanceProtocol) -> Iterator[None]:
    """Record the reason of a failure for the summary, which sends one alert for the whole run.

    What only has to wait is no failure: Airflow starts it later, without a try less, and meanwhile it holds no worker.
    """
    try:
        with _time_limit_told_first(), log_failure():
            yield
    except AirflowSkipException:
        raise
    except PausedError as pause:
        until = datetime.fromtimestamp(outside.now() + pause_seconds(pause), UTC)
        log.info("%s: the task goes on at %s UTC", safe_text(pause), f"{until:%H:%M:%S}")
        raise AirflowRescheduleException(until) from pause  # type: ignore[no-untyped-call] # Airflow's is untyped
    except AirflowTaskTimeout:
        push_quietly(ti, XComKey.FAILURE, TIMED_OUT)
        raise
    except Exception as error:
        push_quietly(ti, XComKey.FAILURE, safe_text(describe(error)))
        raise


@contextmanager
def log_failure() -> Iterator[None]:
    """Make the reason of a failure the first line of its level in the task's log, before Airflow's stack trace.

    So that it is: what goes wrong beside a task's work, and does not fail it, is a warning.
    """
    try:
        yield
    except (AirflowSkipException, PausedError):
        raise
    except Exception as error:
        log.error("%s", safe_text(describe(error)))
        raise


@contextmanager
def _time_limit_told_first() -> Iterator[None]:
    """Log what a task's time limit means before Airflow's handler of the alarm does, which says nothing of it."""
    handler = signal.getsignal(signal.SIGALRM)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def tell(number: int, frame: FrameType | None) -> None:
        log.error("%s", TIMED_OUT)
        handler(number, frame)

    signal.signal(signal.SIGALRM, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)


def push_quietly(ti: RuntimeTaskInstanceProtocol, key: str, value: Any) -> bool:
    """Push an XCom entry, its texts printable; whether it worked, as a failure never replaces another error."""
    try:
        ti.xcom_push(key=key, value=printable_values(value))
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("XCom '%s' was not pushed: %s", key, type(error).__name__)
        return False
    return True


def record_alerted(context: Context, channels: Iterable[str]) -> None:
    """Record the channels that took the run's alert, for the callback below.

    With how often the run has been cleared: what an earlier life of the run recorded stays in XCom until its summary
    runs again.
    """
    clear_number = context["dag_run"].clear_number or 0
    push_quietly(context["ti"], XComKey.ALERTED, {"clear_number": clear_number, "channels": sorted(channels)})


def alert_unreported_failure(context: Context) -> None:
    """``on_failure_callback`` of a DAG: alert unless the run's summary did.

    Runs in the DAG processor when the run has failed, also when tasks were killed and no code of theirs ran.
    """
    dag_id, run_id = context["dag"].dag_id, str(context["run_id"])
    summary = _OTHER_SUMMARY_TASKS.get(dag_id, SUMMARY_TASK)
    ti = context.get("ti")
    refusal = None if ti is None else unknown_key(context)
    alerted = None if ti is None else _recorded(summary, ti, XComKey.ALERTED)
    told = alerted and alerted["channels"] and alerted["clear_number"] == (context["dag_run"].clear_number or 0)
    if (refusal and by_person(context)) or told:
        log.info("run %s of %s failed; people know why: %s", run_id, dag_id, refusal or alerted)
        if refusal or REFUSAL in (alerted or {}).get("channels", ()):
            _count_refusal()
        return
    # Here: the DAG files import this module, and Slack's provider takes a quarter of a second.
    from airflow_ext.notifications.channels import outbox, send_alerts

    topic_arn, runbook, keep = None, RUNBOOK, None
    try:
        settings = load_settings()
        topic_arn, runbook, keep = settings.alerts_topic_arn, settings.runbook_url, outbox(settings).put
    except Exception as error:  # noqa: BLE001 - the alert needs no settings
        log.error("the settings cannot be read, the alerts' topic is that of the option: %s", describe(error))
    reason = str(context.get("reason") or "unknown")
    ending = _ENDINGS.get(reason, "see Airflow").format(limit=getattr(context["dag"], "dagrun_timeout", None))
    facts = [f"reason: {refusal or f'{reason}: {ending}'}"]
    if ti is not None:
        why = _recorded(summary, ti, XComKey.FAILURE)
        facts += [f"{summary}: {why}"] if why else []
        facts += [f"last task: {ti.task_id}", f"log: {ti.log_url}"]
    headline = "the run failed before its summary could send an alert"
    step = next_step(runbook, Section.UNREPORTED)
    page = operations_url(dag_id)
    alert = Alert(Severity.ERROR, dag_id, run_id, headline, facts, next_step=step, operations=page)
    send_alerts([alert], context, topic_arn=topic_arn, keep=keep)


def _count_refusal() -> None:
    """Count a refused run as reported, or the alarm on failed runs that no pipeline reported would go off."""
    from airflow_ext.hooks.aws import publish_metrics

    try:
        publish_metrics({"ReportedFailures": 1.0}, environment=load_settings().environment, pipeline=ALL_PIPELINES)
    except Exception as error:  # noqa: BLE001 - at worst an alarm goes off
        log.error("metrics were not published: %s", type(error).__name__)


def _recorded(task_id: str, ti: RuntimeTaskInstanceProtocol, key: XComKey) -> Any:
    try:
        return ti.xcom_pull(task_ids=task_id, key=key)
    except Exception as error:  # noqa: BLE001 - whatever breaks here, the alert must go out: at least once
        log.error("XCom '%s' of '%s' cannot be read: %s", key, task_id, type(error).__name__)
        return None
