"""The tasks of ``dex_trigger_archive``: Airflow's context on one side, :mod:`include.archive` on the other."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import Asset
from airflow.sdk.configuration import conf
from botocore.exceptions import BotoCoreError, ClientError

from airflow_ext.hooks.aws import publish_metrics, s3_client
from airflow_ext.hooks.dex import dex_api, read_rows
from airflow_ext.ids import DEX_TRIGGER_ARCHIVE, XComKey
from airflow_ext.notifications.alerts import send_alert
from airflow_ext.notifications.safety_net import failure_kept
from airflow_ext.settings import Settings, load_settings
from include.archive.dates import trigger_date
from include.archive.digest import ARCHIVE_TASK, LIST_TASK, LogUrl, digest, not_listed
from include.archive.plan import Plan, Slice, cut
from include.archive.roster import client_query, clients_from_rows, select
from include.archive.run import ArchiveRun, keep_plan
from include.errors import ClientsFailedError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.alerts import Alert
    from include.archive.manifest import Manifest
    from include.clients.dex import DexApi

log = logging.getLogger(__name__)

XCOM_CLIENTS = 1000
"""Up to this many clients the summary in XCom holds a line for each; the manifest in S3 always does."""

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
            now=datetime.now(UTC),
            zone=settings.zone,
            offset_days=settings.trigger_date_offset_days,
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
        place = keep_plan(s3_client(), settings.archive_bucket, plan)
        log.info("%d clients in %d tasks for trigger date %s", len(clients), len(slices), day)
        context["ti"].xcom_push(key=XComKey.PLAN, value=place)
        return [{"plan": place, **asdict(piece)} for piece in slices]


def archive_client(context: Context, work: Work) -> dict[str, int]:
    """Archive one client, or one group of clients where there are very many.

    Returns:
        how many clients ended in which way.
    """
    piece = Slice(start=int(work["start"]), stop=int(work["stop"]), label=str(work["label"]))
    context["label"] = piece.label  # type: ignore[typeddict-unknown-key] # read by map_index_template
    with failure_kept(context["ti"]):
        run = ArchiveRun.at(str(work["plan"]), s3_client(max_connections=piece.size))
        dex = dex_api(default_base_url=run.plan.base_url)
        return run.archive_slice(piece, dex, clear_number=context["dag_run"].clear_number or 0)


def summarize(context: Context) -> dict[str, Any]:
    """Account for every client, keep the manifest, tell people once, and fail the run if a client failed.

    Returns:
        the summary; it is in XCom also when the run fails.

    Raises:
        ClientsFailedError: a client failed, or none was listed.
    """
    ti, run_id = context["ti"], context["dag_run"].run_id
    with failure_kept(ti):
        settings = load_settings()
        place = ti.xcom_pull(task_ids=LIST_TASK, key=XComKey.PLAN)
        if place is None:
            reason = ti.xcom_pull(task_ids=LIST_TASK, key=XComKey.FAILURE) or "the task was killed or timed out"
            _tell(
                not_listed(pipeline=DEX_TRIGGER_ARCHIVE, run_id=run_id, reason=reason, log_url=_log_url(run_id)),
                context,
                settings,
            )
            raise ClientsFailedError(f"no client was archived: {LIST_TASK} failed: {reason}")
        key, manifest = ArchiveRun.at(place, s3_client()).account(
            why_no_outcome=lambda index: ti.xcom_pull(task_ids=ARCHIVE_TASK, key=XComKey.FAILURE, map_indexes=index),
        )
        summary = _summary(manifest, key)
        _count(manifest, settings)
        alert = digest(
            manifest,
            pipeline=DEX_TRIGGER_ARCHIVE,
            location=f"s3://{settings.archive_bucket}/{key}",
            log_url=_log_url(run_id),
        )
        if alert is not None:
            _tell(alert, context, settings)
        if manifest.failures:
            ti.xcom_push(key="return_value", value=summary)
            raise ClientsFailedError(f"{len(manifest.failures)} of {len(manifest.outcomes)} clients failed; see {key}")
        context["outlet_events"][Asset(DEX_TRIGGER_ARCHIVE)].extra = {**manifest.counts, "manifest": key}
        return summary


def _summary(manifest: Manifest, key: str) -> dict[str, Any]:
    """What goes to XCom: the manifest itself, or its numbers and first errors where it is long."""
    if len(manifest.outcomes) <= XCOM_CLIENTS:
        return {**manifest.to_document(), "manifest": key}
    summary = manifest.summary()
    return {**summary, "errors": summary["errors"][:XCOM_CLIENTS], "manifest": key}


def _count(manifest: Manifest, settings: Settings) -> None:
    counts = manifest.counts
    values = {
        "CompletedRuns": 1.0,
        "FailedClients": float(counts["failed_archives"]),
        "SuccessfulClients": float(counts["successful_archives"]),
    }
    try:
        publish_metrics(values, environment=settings.environment, pipeline=DEX_TRIGGER_ARCHIVE)
    except (BotoCoreError, ClientError) as error:
        # The alarms watch for missing numbers; the archive itself is complete.
        log.error("metrics were not published: %s: %s", type(error).__name__, error)


def _tell(alert: Alert, context: Context, settings: Settings) -> None:
    delivered = send_alert(alert, context, topic_arn=settings.alerts_topic_arn)
    context["ti"].xcom_push(key=XComKey.ALERTED, value=delivered)


async def _log_in(dex: DexApi) -> None:
    async with dex:
        await dex.log_in()


def _log_url(run_id: str) -> LogUrl:
    base = conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/")

    def url(task_id: str, map_index: int | None) -> str:
        mapped = "" if map_index is None else f"/mapped/{map_index}"
        return f"{base}/dags/{DEX_TRIGGER_ARCHIVE}/runs/{quote(run_id)}/tasks/{task_id}{mapped}"

    return url
