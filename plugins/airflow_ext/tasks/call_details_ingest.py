"""The tasks of ``call_details_ingest``: Airflow's context on one side, :mod:`include.call_details` on the other.

What people, alarms and other DAGs are told of a run of ``call_details_ingest``.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from airflow_ext.ids import CALL_DETAILS_INGEST, XComKey
from airflow_ext.metrics import count_run, log_links, task_states
from airflow_ext.notifications.channels import send_alert
from airflow_ext.notifications.failure_callback import push_quietly, record_alerted, record_failure, safe_text
from airflow_ext.tasks.call_details_clients import IngestDesk
from include.call_details.alerts import KILLED, PLAN_TASK, POST_TASK, no_receipt, receipt_alert
from include.call_details.models import Done, FileVersion
from include.call_details.planner import Planning, read_plan, resolve
from include.call_details.poster import post_chunk as post
from include.call_details.reconcile import Closing
from include.errors import FileFailedError, InvalidFileError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ext.settings import Settings
    from include.alerts import Alert
    from include.call_details.reconcile import KeptReceipt

log = logging.getLogger(__name__)

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
    record_alerted(context, send_alert(alert, context, topic_arn=settings.alerts_topic_arn))


_ASSET_FACTS = (
    "bucket",
    "key",
    "etag",
    "outcome",
    "records_read",
    "records_accepted",
    "records_dead_lettered",
    "receipt",
)


def plan(context: Context) -> list[int]:
    """Claim the file version that the run is about, and cut it.

    Returns:
        indexes of its chunks; none if the version is done already, or holds no record.

    Raises:
        InvalidInputError: the params name no file, or the settings do not suit it.
        InvalidFileError: the file cannot be read.
        FileHeldError: another run has it; a retry may work.
        FileChangedError: it is gone, or was replaced.
    """
    ti, params, run_id = context["ti"], context["params"], context["dag_run"].run_id
    with record_failure(ti):
        desk = IngestDesk(params["bucket"])
        file = resolve(desk.store, params["key"], params["etag"])
        ti.xcom_push(key=XComKey.FILE, value=asdict(file))
        planning = Planning(desk.store, desk.claims, records_per_batch=desk.settings.max_records_per_batch)
        claim = planning.claim(file, run_id, force=params["force"])
        if isinstance(claim, Done):
            ti.xcom_push(key=XComKey.DONE, value={"run_id": claim.owner, "receipt": claim.receipt})
            log.info("%s (%s) was ingested by run %s: nothing is posted", file.key, file.etag, claim.owner)
            return []
        try:
            found = planning.plan(claim)
        except InvalidFileError as error:
            push_quietly(ti, XComKey.UNREADABLE, safe_text(error))
            raise
        log.info("%d records in %d batches in %d chunks", found.records, found.batches, len(found.chunks))
        return [chunk.index for chunk in found.chunks]


def post_chunk(context: Context, index: int) -> dict[str, int]:
    """Post what is left of one chunk.

    Returns:
        how many of its batches were accepted, and how many are dead letters.

    Raises:
        ClaimLostError: another run has taken over the file.
        FileChangedError: the file is gone, or was replaced.
    """
    ti = context["ti"]
    with record_failure(ti):
        file = _file(context)
        desk = IngestDesk(file.bucket)
        claim = desk.claims.current(file, context["dag_run"].run_id)
        found = read_plan(desk.store, claim)
        chunk = found.chunks[index]
        label = f"records {chunk.first_record:,}-{chunk.first_record + chunk.records - 1:,}"
        context["label"] = label  # type: ignore[typeddict-unknown-key] # read by map_index_template
        state = asyncio.run(post(desk.posting(), claim, found, chunk))
        log.info("%s: %d batches accepted, %d dead letters", label, state.accepted_batches, len(state.dead))
        return {"accepted": state.accepted_batches, "dead_lettered": len(state.dead)}


def reconcile(context: Context) -> dict[str, Any]:
    """Account for every record, move the file on, and tell people if there is something to tell.

    Returns:
        the receipt, less its ranges; it is in XCom also when the run fails.

    Raises:
        FileFailedError: some records are neither accepted nor kept as dead letters, or the file could not be planned.
        ClaimLostError: another run has taken over the file.
        AirflowSkipException: the file had been ingested before.
    """
    ti = context["ti"]
    with record_failure(ti):
        planned = task_states(context, PLAN_TASK).get(PLAN_TASK) == "success"
        done = ti.xcom_pull(task_ids=PLAN_TASK, key=XComKey.DONE) if planned else None
        if done is None:
            return _close(context, planned=planned)
        ti.xcom_push(key="return_value", value=done)
        count(context, IngestDesk().settings, None, failed=False)
    # Outside the block: this is no failure.
    raise AirflowSkipException(
        f"nothing was posted: run {done['run_id']} has ingested this file, see {done['receipt']}; to post it again, "
        "give the param force"
    )


def _close(context: Context, *, planned: bool) -> dict[str, Any]:
    ti = context["ti"]
    file = ti.xcom_pull(task_ids=PLAN_TASK, key=XComKey.FILE)
    reason = None if planned else ti.xcom_pull(task_ids=PLAN_TASK, key=XComKey.FAILURE) or KILLED
    desk = IngestDesk(file["bucket"] if file else None)
    kept = _receipt(context, desk, FileVersion(**file), reason) if file else None
    if kept is None:
        report_no_receipt(context, desk.settings, str(reason))
        raise FileFailedError(f"nothing was ingested: {PLAN_TASK} failed: {reason}")
    summary = xcom_summary(kept)
    # The return value of a task that fails is not kept otherwise.
    ti.xcom_push(key="return_value", value=summary)
    report_receipt(context, desk.settings, kept, bucket=desk.bucket)
    if kept.outcome.failed:
        raise FileFailedError(f"{kept.document['key']} ended {kept.outcome.value}: see {kept.key}")
    context["outlet_events"][Asset(CALL_DETAILS_INGEST)].extra = {name: summary[name] for name in _ASSET_FACTS}
    return summary


def _receipt(context: Context, desk: IngestDesk, file: FileVersion, reason: str | None) -> KeptReceipt | None:
    """The run's receipt; ``reason`` is why its file was not planned, if it was not."""
    dag_run = context["dag_run"]
    closing = Closing(
        store=desk.store,
        table=desk.table,
        claims=desk.claims,
        file=file,
        run_id=dag_run.run_id,
        started_at=dag_run.start_date or dag_run.run_after,
        now=datetime.now(UTC),
    )
    if reason is None:
        return closing.planned()
    unreadable = context["ti"].xcom_pull(task_ids=PLAN_TASK, key=XComKey.UNREADABLE)
    return closing.unreadable(unreadable) if unreadable else closing.given_up(reason)


def _file(context: Context) -> FileVersion:
    return FileVersion(**context["ti"].xcom_pull(task_ids=PLAN_TASK, key=XComKey.FILE))
