"""What the summaries of all pipelines ask Airflow and report in the same way: task states, reasons, alerts, metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from typing import Any
from urllib.parse import quote

from airflow.sdk import Asset, Context
from botocore.exceptions import BotoCoreError, ClientError

from airflow_ext.defaults import by_person, operations_url, started_at, ui_url
from airflow_ext.hooks.aws import publish_metrics
from airflow_ext.ids import ALL_PIPELINES, ENERGY_AUCTION, XComKey
from airflow_ext.notifications.channels import open_channels, outbox, send_alerts
from airflow_ext.notifications.failure_callback import REFUSAL, push_quietly, record_alerted, safe_text
from airflow_ext.outside import outside
from airflow_ext.settings import Settings
from include.alerts import Alert, RunRef, Section, next_step, run_note
from include.errors import PipelineError, RunRefusedError, describe
from include.text import printable_values

log = logging.getLogger(__name__)


class RunReport:
    """One run, as its summary task asks about it and reports it."""

    def __init__(self, context: Context, settings: Settings) -> None:
        dag_run = context["dag_run"]
        dag_id = context["dag"].dag_id
        self.run = RunRef(dag_id, dag_run.run_id, log_links(context), settings.runbook_url, operations_url(dag_id))
        self.clear_number: int = dag_run.clear_number or 0
        self._context = context
        self._settings = settings

    def about(self, day: date) -> None:
        """Let alerts and note lead to this day of the run's view of the operations page."""
        self.run = replace(self.run, operations=operations_url(self.run.pipeline, day))

    def pull(self, task_id: str, key: str = "return_value", map_index: int | None = None) -> Any:
        """An XCom entry of a task, or None."""
        return self._context["ti"].xcom_pull(task_ids=task_id, key=key, map_indexes=map_index)

    def failure(self, task_id: str, map_index: int | None = None) -> str | None:
        """What a task recorded as the reason of its failure, or None."""
        reason: str | None = self.pull(task_id, XComKey.FAILURE, map_index)
        return reason

    def raise_refusal(self, task_id: str, nothing: str, *kinds: type[PipelineError]) -> None:
        """End a run that a person started and a task refused; that person sees why, so the run sends no alert.

        The task comes before anything is done, which the clause ``nothing`` says. ``kinds`` are errors of it that are
        refusals of what a person asked for, beside RunRefusedError.
        """
        reason = self.failure(task_id) or ""
        refusals: tuple[type[PipelineError], ...] = (RunRefusedError, *kinds)
        if reason.partition(":")[0] not in [kind.__name__ for kind in refusals] or not by_person(self._context):
            return
        record_alerted(self._context, [REFUSAL])
        self.note(f"Refused, {nothing}: {reason}", section=Section.REFUSED)
        raise RunRefusedError(f"{task_id} refused the run, {nothing}: {reason}")

    def alert(self, *alerts: Alert | None, record: bool = True) -> bool:
        """Send the run's alerts, if there are any, and record for the failure callback who took all of them.

        Not to be recorded are alerts that do not say why the run may fail.

        Returns whether each is on its way to people: a channel took it, or it waits for one.
        """
        topic = self._settings.alerts_topic_arn
        box, waiting = outbox(self._settings), list[Alert]()

        def keep(channel: str, *left: Alert) -> None:
            waiting.extend(box.put(channel, *left))

        given = [each for each in alerts if each is not None]
        taken = send_alerts(given, self._context, topic_arn=topic, keep=keep)
        if taken and record:
            record_alerted(self._context, set.intersection(*map(set, taken)))
        return all(channels or each in waiting for each, channels in zip(given, taken, strict=True))

    def send_waiting(self) -> None:
        """Send alerts that a channel did not take from a run of any pipeline; never raises.

        How many go on waiting is counted with those of the auction, whose alarm watches for all.
        """
        topic = self._settings.alerts_topic_arn
        waiting = outbox(self._settings).send(lambda: open_channels(self._context, topic_arn=topic, attempts=1))
        if waiting:
            values = {"UndeliveredAlerts": float(waiting)}
            _publish(values, environment=self._settings.environment, pipeline=ENERGY_AUCTION)

    def note(self, headline: str, *, section: Section | None = None, **facts: object) -> None:
        """Write the run's note (see :func:`include.alerts.run_note`); never raises.

        Facts are numbers and keys by name, blanks as underscores; None is left out. The section of the runbook is
        given if there is something to do.
        """
        named = {name.replace("_", " "): fact for name, fact in facts.items() if fact is not None}
        step = None if section is None else next_step(self._settings.runbook_url, section)
        push_quietly(self._context["ti"], XComKey.NOTE, run_note(safe_text(headline), named, step, self.run.operations))

    def push(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Push the run's summary as the task's return value, after people were alerted; never raises.

        The task itself must not return it to Airflow (``do_xcom_push=False``): a value that XCom refuses would fail the
        task, and each retry would send the alerts again. If XCom refuses it, its numbers alone are pushed. Returns the
        summary, its texts printable.
        """
        document: dict[str, Any] = printable_values(summary)
        ti = self._context["ti"]
        if not push_quietly(ti, "return_value", document):
            numbers = {name: value for name, value in document.items() if isinstance(value, int | float)}
            push_quietly(ti, "return_value", numbers)
        return document

    def update_asset(self, facts: Mapping[str, Any]) -> None:
        """Give the asset of the pipeline's name these facts, their texts printable."""
        self._context["outlet_events"][Asset(self.run.pipeline)].extra = printable_values(facts)

    def count(self, counts: Mapping[str, float], *, failed: bool) -> None:
        """Publish the run's metrics, its duration among them; failing to is only logged: alarms watch for missing ones.

        ``counts`` are the pipeline's own, by name.
        """
        dag_run, environment = self._context["dag_run"], self._settings.environment
        values = {"FailedRuns": float(failed), **{name: float(value) for name, value in counts.items()}}
        if dag_run.run_type == "scheduled":
            # What the alarm on missing runs waits for: a run that somebody started must not hide a stopped schedule.
            values["ScheduledRuns"] = 1.0
        if (start := started_at(self._context)) is not None:
            values["RunSeconds"] = outside.now() - start.timestamp()
        _publish(values, environment=environment, pipeline=self.run.pipeline)
        if failed:
            _publish({"ReportedFailures": 1.0}, environment=environment)


def _publish(values: Mapping[str, float], *, environment: str, pipeline: str = ALL_PIPELINES) -> None:
    try:
        publish_metrics(values, environment=environment, pipeline=pipeline)
    except (BotoCoreError, ClientError) as error:
        log.warning("metrics were not published: %s", describe(error))


def task_states(context: Context, *task_ids: str) -> dict[str, str | None]:
    """States of some of the run's tasks by task id, those of mapped ones by ``<task id>_<map index>``."""
    run_id = context["dag_run"].run_id
    found = context["ti"].get_task_states(dag_id=context["dag"].dag_id, task_ids=list(task_ids), run_ids=[run_id])
    states: dict[str, str | None] = found.get(run_id, {})
    return states


def succeeded(states: Mapping[str, str | None], task_id: str, count: int) -> list[int]:
    """Indexes below ``count`` of a mapped task's instances that succeeded, out of :func:`task_states`."""
    return [index for index in range(count) if states.get(f"{task_id}_{index}") == "success"]


def log_links(context: Context, run_id: str | None = None) -> Callable[[str, int | None], str]:
    """Makes links to the logs of the run, or of another one of its DAG, by task id and map index."""
    run = ui_url(f"/dags/{context['dag'].dag_id}/runs/{quote(run_id or context['dag_run'].run_id)}")

    def url(task_id: str, map_index: int | None) -> str:
        mapped = "" if map_index is None else f"/mapped/{map_index}"
        return f"{run}/tasks/{task_id}{mapped}"

    return url
