"""What the summaries of all pipelines ask and report in the same way: states of tasks, metrics, and links to logs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk.configuration import conf
from botocore.exceptions import BotoCoreError, ClientError

from airflow_ext.hooks.aws import publish_metrics
from include.alerts import RunRef

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

log = logging.getLogger(__name__)


def count_run(context: Context, counts: Mapping[str, float], *, failed: bool, environment: str) -> None:
    """Publish a run's metrics; failing to is only logged, as the alarms watch for missing numbers.

    Args:
        context: that of the summary task.
        counts: the pipeline's own metrics, by name.
        failed: whether the run failed.
        environment: the setting of that name.
    """
    dag_run = context["dag_run"]
    values = {"FailedRuns": float(failed), **counts}
    if dag_run.run_type == "scheduled":
        # What the alarm on missing runs waits for: a run that somebody started must not hide a stopped schedule.
        values["ScheduledRuns"] = 1.0
    try:
        publish_metrics(values, environment=environment, pipeline=context["dag"].dag_id)
    except (BotoCoreError, ClientError) as error:
        log.error("metrics were not published: %s: %s", type(error).__name__, error)


def task_states(context: Context, *task_ids: str) -> dict[str, str | None]:
    """States of some of the run's tasks by task id, those of mapped ones by ``<task id>_<map index>``.

    Args:
        context: that of the summary task.
        task_ids: of the tasks before it.
    """
    run_id = context["dag_run"].run_id
    found = context["ti"].get_task_states(dag_id=context["dag"].dag_id, task_ids=list(task_ids), run_ids=[run_id])
    states: dict[str, str | None] = found.get(run_id, {})
    return states


def log_links(context: Context) -> Callable[[str, int | None], str]:
    """Makes links to the logs of the run, by task id and map index."""
    base = conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/")
    run = f"{base}/dags/{context['dag'].dag_id}/runs/{quote(context['dag_run'].run_id)}"

    def url(task_id: str, map_index: int | None) -> str:
        mapped = "" if map_index is None else f"/mapped/{map_index}"
        return f"{run}/tasks/{task_id}{mapped}"

    return url


def run_ref(context: Context) -> RunRef:
    """The run, as alerts name it."""
    return RunRef(context["dag"].dag_id, context["dag_run"].run_id, log_links(context))
