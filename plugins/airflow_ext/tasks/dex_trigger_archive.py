"""The tasks of ``dex_trigger_archive``: Airflow's context on one side, :mod:`include.archive` on the other.

What people, alarms and other DAGs are told of a run of ``dex_trigger_archive``.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from airflow_ext.defaults import schedule_timezone
from airflow_ext.hooks.aws import s3_client
from airflow_ext.hooks.dex import dex_api, read_rows
from airflow_ext.ids import DEX_TRIGGER_ARCHIVE, XComKey
from airflow_ext.metrics import count_run, run_ref, task_states
from airflow_ext.notifications.channels import send_alert
from airflow_ext.notifications.failure_callback import failure_kept, leave_alerted
from airflow_ext.settings import load_settings
from include.archive.alerts import ARCHIVE_TASK, LIST_TASK, digest, not_listed
from include.archive.dates import trigger_date
from include.archive.models import Plan, client_query, clients_from_rows, cut, select
from include.archive.run import ArchiveRun, save_plan
from include.errors import ClientsFailedError
from include.mapped_work import Slice

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ext.settings import Settings
    from include.alerts import Alert
    from include.archive.models import Manifest
    from include.clients.dex import DexApi

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
    alert = digest(manifest, run_ref(context), uri=f"s3://{settings.archive_bucket}/{key}")
    if alert is not None:
        _tell(alert, context, settings)


def report_no_list(context: Context, settings: Settings, reason: str) -> None:
    """The same for a run that never had clients to work on."""
    _count(context, settings, None)
    _tell(not_listed(run_ref(context), reason=reason), context, settings)


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


Work = dict[str, int | str]
"""What a mapped task gets: ``plan`` (where it lies), and its slice: ``start``, ``stop``, ``label``."""


def list_clients(context: Context) -> list[Work]:
    """Fix the run's day and clients, prove the API credentials, and keep the plan in S3.

    Returns:
        the slices to map, references into the plan.
    """
    with failure_kept(context["ti"]):
        settings = load_settings()
        params, dag_run = context["params"], context["dag_run"]
        day = trigger_date(
            requested=params["trigger_date"],
            logical_date=dag_run.logical_date,
            triggered_at=dag_run.run_after,
            now=datetime.now(UTC),
            zone=settings.zone,
            offset_days=settings.trigger_date_offset_days,
        )
        if schedule_timezone() != settings.business_timezone:
            log.warning(
                "runs are scheduled in %s (option pipelines.business_timezone), but days are those of %s (setting "
                "business_timezone): make them equal",
                schedule_timezone(),
                settings.business_timezone,
            )
        clients = select(clients_from_rows(read_rows(client_query())), params["client_ids"])
        if clients:
            asyncio.run(_log_in(dex_api(default_base_url=settings.dex_api_base_url)))
        slices = cut(clients, max_tasks=settings.max_mapped_clients, clients_per_task=settings.clients_per_task)
        plan = Plan(
            run_id=dag_run.run_id,
            clear_number=dag_run.clear_number or 0,
            day=day,
            force=params["force"],
            concurrency=settings.archive_concurrency,
            base_url=settings.dex_api_base_url,
            clients=tuple(clients),
            slices=slices,
        )
        plan_at = save_plan(s3_client(), settings.archive_bucket, plan)
        log.info("%d clients in %d tasks for trigger date %s", len(clients), len(slices), day)
        context["ti"].xcom_push(key=XComKey.PLAN, value=plan_at)
        return [{"plan": plan_at, **asdict(piece)} for piece in slices]


def archive_client(context: Context, work: Work) -> dict[str, int]:
    """Archive one client, or one group of clients where there are very many.

    Returns:
        how many clients ended in which way.
    """
    piece = Slice(start=int(work["start"]), stop=int(work["stop"]), label=str(work["label"]))
    context["label"] = piece.label  # type: ignore[typeddict-unknown-key] # read by map_index_template
    with failure_kept(context["ti"]):
        run = ArchiveRun.load(str(work["plan"]), s3_client(max_connections=piece.size))
        dex = dex_api(default_base_url=run.plan.base_url)
        return run.archive_slice(piece, dex, clear_number=context["dag_run"].clear_number or 0)


def summarize(context: Context) -> dict[str, Any]:
    """Account for every client, keep the manifest, tell people once, and fail the run if a client failed.

    Returns:
        the summary; it is in XCom also when the run fails.

    Raises:
        ClientsFailedError: a client failed, or none was listed.
    """
    ti, dag_run = context["ti"], context["dag_run"]
    with failure_kept(ti):
        settings = load_settings()
        states = task_states(context, LIST_TASK, ARCHIVE_TASK)
        # A list_clients that failed when it was run again has left the plan of its earlier life.
        listed = states.get(LIST_TASK) == "success"
        plan_at = ti.xcom_pull(task_ids=LIST_TASK, key=XComKey.PLAN) if listed else None
        if plan_at is None:
            reason = ti.xcom_pull(task_ids=LIST_TASK, key=XComKey.FAILURE) or "the task was killed or never ran"
            report_no_list(context, settings, reason)
            raise ClientsFailedError(f"no client was archived: {LIST_TASK} failed: {reason}")
        run = ArchiveRun.load(plan_at, s3_client())
        key, manifest = run.account(
            clear_number=dag_run.clear_number or 0,
            succeeded=[i for i in range(len(run.plan.slices)) if states.get(f"{ARCHIVE_TASK}_{i}") == "success"],
            why_no_outcome=lambda index: ti.xcom_pull(task_ids=ARCHIVE_TASK, key=XComKey.FAILURE, map_indexes=index),
        )
        summary = xcom_summary(manifest, key)
        if manifest.failures:
            # The return value of a task that fails is not kept otherwise.
            ti.xcom_push(key="return_value", value=summary)
        report_run(context, settings, manifest, key)
        if manifest.failures:
            raise ClientsFailedError(f"{len(manifest.failures)} of {len(manifest.outcomes)} clients failed; see {key}")
        context["outlet_events"][Asset(DEX_TRIGGER_ARCHIVE)].extra = {
            "trigger_date": manifest.plan.day.isoformat(),
            **manifest.counts,
            "manifest": key,
        }
        return summary


async def _log_in(dex: DexApi) -> None:
    async with dex:
        await dex.log_in()
