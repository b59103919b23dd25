"""What people, alarms and other DAGs are told of a run of ``call_details_ingest``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ext.ids import CALL_DETAILS_INGEST, XComKey
from airflow_ext.notifications.alerts import send_alert
from airflow_ext.notifications.safety_net import leave_alerted
from airflow_ext.run_report import count_run, log_links
from include.ingest.alerts import POST_TASK, no_receipt, receipt_alert

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ext.settings import Settings
    from include.alerts import Alert
    from include.ingest.closing import KeptReceipt

XCOM_PROBLEMS = 20
"""Up to this many problems are in XCom; the receipt in S3 has all."""


def report_receipt(context: Context, settings: Settings, kept: KeptReceipt, *, bucket: str) -> None:
    """Publish the run's metrics, and send its alert if it calls for one.

    Args:
        context: that of the last task.
        settings: name topic and environment.
        kept: the run's receipt.
        bucket: where it lies.
    """
    count(context, settings, kept, failed=kept.outcome.failed)
    ti = context["ti"]
    alert = receipt_alert(
        kept,
        pipeline=CALL_DETAILS_INGEST,
        location=f"s3://{bucket}/{kept.key}",
        log_url=log_links(context),
        why_failed=lambda index: ti.xcom_pull(task_ids=POST_TASK, key=XComKey.FAILURE, map_indexes=index),
    )
    if alert is not None:
        _tell(alert, context, settings)


def report_no_receipt(context: Context, settings: Settings, reason: str) -> None:
    """The same for a run that never had a file, or lost it to another."""
    count(context, settings, None, failed=True)
    run_id = context["dag_run"].run_id
    alert = no_receipt(pipeline=CALL_DETAILS_INGEST, run_id=run_id, reason=reason, log_url=log_links(context))
    _tell(alert, context, settings)


def count(context: Context, settings: Settings, kept: KeptReceipt | None, *, failed: bool) -> None:
    """Publish the run's metrics.

    Args:
        context: that of the last task.
        settings: name the environment.
        kept: the run's receipt; None if it posted nothing.
        failed: whether the run fails.
    """
    found = kept.document if kept else {}
    values = {
        "AcceptedRecords": float(found.get("records_accepted", 0)),
        "DeadLetteredRecords": float(found.get("records_dead_lettered", 0)),
    }
    count_run(context, values, failed=failed, environment=settings.environment)


def xcom_summary(kept: KeptReceipt) -> dict[str, Any]:
    """What goes to XCom: the receipt without its ranges, of which there may be hundreds."""
    found = {name: value for name, value in kept.document.items() if name != "ranges"}
    return {**found, "problems": found["problems"][:XCOM_PROBLEMS], "receipt": kept.key}


def _tell(alert: Alert, context: Context, settings: Settings) -> None:
    leave_alerted(context, send_alert(alert, context, topic_arn=settings.alerts_topic_arn))
