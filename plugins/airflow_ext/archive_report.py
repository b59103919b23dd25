"""What people, alarms and other DAGs are told of a run of ``dex_trigger_archive``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ext.ids import DEX_TRIGGER_ARCHIVE
from airflow_ext.notifications.alerts import send_alert
from airflow_ext.notifications.safety_net import leave_alerted
from airflow_ext.run_report import count_run, log_links
from include.archive.digest import digest, not_listed

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ext.settings import Settings
    from include.alerts import Alert
    from include.archive.manifest import Manifest

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
        log_url=log_links(context),
    )
    if alert is not None:
        _tell(alert, context, settings)


def report_no_list(context: Context, settings: Settings, reason: str) -> None:
    """The same for a run that never had clients to work on."""
    run_id = context["dag_run"].run_id
    _count(context, settings, None)
    alert = not_listed(pipeline=DEX_TRIGGER_ARCHIVE, run_id=run_id, reason=reason, log_url=log_links(context))
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
        "FailedClients": float(counts["failed_archives"]),
        "SuccessfulClients": float(counts["successful_archives"]),
    }
    failed = manifest is None or bool(manifest.failures)
    count_run(context, values, failed=failed, environment=settings.environment)


def _tell(alert: Alert, context: Context, settings: Settings) -> None:
    leave_alerted(context, send_alert(alert, context, topic_arn=settings.alerts_topic_arn))
