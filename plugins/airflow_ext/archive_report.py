"""What people, alarms and other DAGs are told of a run of ``dex_trigger_archive``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk.configuration import conf
from botocore.exceptions import BotoCoreError, ClientError

from airflow_ext.hooks.aws import publish_metrics
from airflow_ext.ids import DEX_TRIGGER_ARCHIVE, XComKey
from airflow_ext.notifications.alerts import send_alert
from airflow_ext.notifications.safety_net import leave
from include.archive.digest import LogUrl, digest, not_listed

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ext.settings import Settings
    from include.alerts import Alert
    from include.archive.manifest import Manifest

log = logging.getLogger(__name__)

XCOM_CLIENTS = 1000
"""Up to this many clients the summary in XCom holds a line for each; the manifest in S3 always does."""


def report_run(context: Context, settings: Settings, manifest: Manifest, key: str) -> None:
    """Publish the run's metrics, and send its alert if it calls for one.

    Args:
        context: that of the summary task.
        settings: name the topic.
        manifest: what the run did.
        key: of the manifest.
    """
    _count(context, settings, manifest)
    alert = digest(
        manifest,
        pipeline=DEX_TRIGGER_ARCHIVE,
        location=f"s3://{settings.archive_bucket}/{key}",
        log_url=_log_url(context["dag_run"].run_id),
    )
    if alert is not None:
        _tell(alert, context, settings)


def report_no_list(context: Context, settings: Settings, reason: str) -> None:
    """The same for a run that never had clients to work on."""
    run_id = context["dag_run"].run_id
    _count(context, settings, None)
    alert = not_listed(pipeline=DEX_TRIGGER_ARCHIVE, run_id=run_id, reason=reason, log_url=_log_url(run_id))
    _tell(alert, context, settings)


def xcom_summary(manifest: Manifest, key: str) -> dict[str, Any]:
    """What goes to XCom: the manifest itself, or its numbers and first errors where it is long."""
    if len(manifest.outcomes) <= XCOM_CLIENTS:
        return {**manifest.to_document(), "manifest": key}
    summary = manifest.summary()
    return {**summary, "errors": summary["errors"][:XCOM_CLIENTS], "manifest": key}


def _count(context: Context, settings: Settings, manifest: Manifest | None) -> None:
    counts = {"failed_archives": 0, "successful_archives": 0} if manifest is None else manifest.counts
    values = {
        "FailedRuns": float(manifest is None or bool(manifest.failures)),
        "FailedClients": float(counts["failed_archives"]),
        "SuccessfulClients": float(counts["successful_archives"]),
    }
    if context["dag_run"].run_type == "scheduled":
        # What the alarm on missing runs waits for: a run that somebody started must not hide a stopped schedule.
        values["ScheduledRuns"] = 1.0
    try:
        publish_metrics(values, environment=settings.environment, pipeline=DEX_TRIGGER_ARCHIVE)
    except (BotoCoreError, ClientError) as error:
        # The alarms watch for missing numbers; the archive itself is complete.
        log.error("metrics were not published: %s: %s", type(error).__name__, error)


def _tell(alert: Alert, context: Context, settings: Settings) -> None:
    delivered = send_alert(alert, context, topic_arn=settings.alerts_topic_arn)
    leave(context["ti"], XComKey.ALERTED, delivered)


def _log_url(run_id: str) -> LogUrl:
    base = conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/")

    def url(task_id: str, map_index: int | None) -> str:
        mapped = "" if map_index is None else f"/mapped/{map_index}"
        return f"{base}/dags/{DEX_TRIGGER_ARCHIVE}/runs/{quote(run_id)}/tasks/{task_id}{mapped}"

    return url
