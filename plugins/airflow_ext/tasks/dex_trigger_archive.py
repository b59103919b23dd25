"""The tasks of ``dex_trigger_archive``: Airflow's context on one side, :mod:`include.archive` on the other."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Context

from airflow_ext.defaults import schedule_timezone
from airflow_ext.hooks.aws import AwsSession, s3_client, signed_client
from airflow_ext.hooks.dex import dex_api, read_rows
from airflow_ext.ids import XComKey
from airflow_ext.metrics import RunReport, succeeded, task_states
from airflow_ext.notifications.failure_callback import record_failure
from airflow_ext.settings import MAX_ARCHIVE_CONCURRENCY, load_settings
from include.alerts import KILLED
from include.archive.keys import trigger_date
from include.archive.ledger import Ledger
from include.archive.models import Manifest, Plan, calls_of_task, client_query, clients_from_rows, cut, select
from include.archive.run import ARCHIVE_TASK, LIST_TASK, SECTION, ArchiveRun, digest, not_listed, save_plan
from include.clients.dex import DexApi
from include.clients.s3 import split_uri
from include.errors import SettingsError, WorkFailedError
from include.mapped_work import Slice

log = logging.getLogger(__name__)

XCOM_CLIENTS = 1000
"""Up to this many clients the summary in XCom holds a line for each; the manifest in S3 always does."""

Work = dict[str, int | str]
"""What a mapped task gets: ``plan`` (its URI), and its slice: ``start``, ``stop``, ``label``."""


def list_clients(context: Context) -> list[Work]:
    """Fix the run's day and clients, prove the API credentials, save the plan in S3; returns references into it."""
    with record_failure(context["ti"]):
        settings = load_settings()
        params, dag_run = context["params"], context["dag_run"]
        day = trigger_date(
            requested=params["trigger_date"],
            logical_date=dag_run.logical_date,
            triggered_at=dag_run.run_after,
            now=datetime.now(UTC),
            zone=settings.zone,
            offset_days=settings.trigger_date_offset_days,
            backfill=dag_run.run_type == "backfill",
        )
        if schedule_timezone() != settings.business_timezone:
            log.warning(
                "runs are scheduled in %s (option pipelines.business_timezone), but days are those of %s (setting "
                "business_timezone): make them equal",
                schedule_timezone(),
                settings.business_timezone,
            )
        if settings.archive_lock_mode != "NONE" and not settings.archive_lock_days:
            raise SettingsError(
                f"settings: archive_lock_mode is {settings.archive_lock_mode}, but archive_lock_days is 0, and S3 "
                "takes no lock that has ended: deploy with ArchiveLockDays of at least 1, or with ArchiveLockMode=NONE"
            )
        rows = read_rows(client_query(), undecoded=client_query(names_as_bytes=True))
        known, unusable = clients_from_rows(rows)
        clients = select(known, params["client_ids"])
        if clients:
            dex = dex_api(default_base_url=settings.dex_api_base_url, https_only=not settings.is_local)
            asyncio.run(_log_in(dex))
        slices = cut(clients, max_tasks=settings.max_mapped_clients, clients_per_task=settings.clients_per_task)
        plan = Plan(
            run_id=dag_run.run_id,
            clear_number=dag_run.clear_number or 0,
            day=day,
            force=params["force"],
            concurrency=calls_of_task(settings.archive_concurrency, tasks=len(slices)),
            base_url=settings.dex_api_base_url,
            lock=(settings.archive_lock_mode, settings.archive_lock_days),
            # Who asks for some clients has not asked for these.
            unusable=tuple(unusable) if params["client_ids"] is None else (),
            clients=tuple(clients),
            slices=slices,
        )
        uri = save_plan(s3_client(), settings.archive_bucket, plan)
        log.info("%d clients in %d tasks for trigger date %s", len(clients), len(slices), day)
        context["ti"].xcom_push(key=XComKey.PLAN, value=uri)
        return [{"plan": uri, **asdict(piece)} for piece in slices]


def archive_client(context: Context, work: Work) -> None:
    """Archive one client, or one group where there are very many."""
    piece = Slice(start=int(work["start"]), stop=int(work["stop"]), label=str(work["label"]))
    context["label"] = piece.label  # type: ignore[typeddict-unknown-key] # read by map_index_template
    with record_failure(context["ti"]):
        session = AwsSession()
        s3 = s3_client(max_connections=MAX_ARCHIVE_CONCURRENCY, session=session)
        run = ArchiveRun.load(str(work["plan"]), s3)
        # Its scheme was checked as the run was planned: the settings are not read again for each mapped task.
        dex = dex_api(default_base_url=run.plan.base_url, https_only=False)
        signed = signed_client("s3", session=session, client=s3)
        run.archive_slice(piece, dex, signed, clear_number=context["dag_run"].clear_number or 0)


def summarize(context: Context) -> dict[str, Any]:
    """Account for every client, write the manifest, send one alert, and fail the run if a client failed.

    Returns the summary; it is in XCom also when the run fails.

    Raises:
        WorkFailedError: a client failed, or none was listed.
    """
    with record_failure(context["ti"]):
        settings = load_settings()
        report = RunReport(context, settings)
        states = task_states(context, LIST_TASK, ARCHIVE_TASK)
        # A list_clients that failed when it was run again has left the plan of its earlier life.
        uri = report.pull(LIST_TASK, XComKey.PLAN) if states.get(LIST_TASK) == "success" else None
        if uri is None:
            report.raise_refusal(LIST_TASK, "nothing was archived")
            reason = report.failure(LIST_TASK) or KILLED
            report.count({"FailedClients": 0, "SuccessfulClients": 0}, failed=True)
            report.alert(not_listed(report.run, reason=reason))
            report.note(f"No client was archived: {LIST_TASK} failed: {reason}", section=SECTION)
            raise WorkFailedError(f"no client was archived: {LIST_TASK} failed: {reason}")
        s3 = s3_client()
        with ThreadPoolExecutor(1) as threads:
            newest = threads.submit(Ledger(s3, split_uri(uri)[0]).newest)
            run = ArchiveRun.load(uri, s3)
            report.about(run.plan.day)
            key, manifest = run.account(
                clear_number=report.clear_number,
                succeeded=succeeded(states, ARCHIVE_TASK, len(run.plan.slices)),
                why_no_outcome=lambda index: report.failure(ARCHIVE_TASK, index),
                newest=newest.result,
            )
        counts, failed = manifest.counts, manifest.counts["failed_archives"]
        report.count(
            {"FailedClients": counts["failed_archives"], "SuccessfulClients": counts["successful_archives"]},
            failed=bool(failed),
        )
        report.alert(digest(manifest, report.run, uri=f"s3://{settings.archive_bucket}/{key}"))
        report.note(
            f"{counts['successful_archives']:,} of {counts['total_clients']:,} clients archived "
            f"for {manifest.plan.day}",
            section=SECTION if failed or not counts["total_clients"] else None,
            unchanged=counts["unchanged"],
            failed=failed,
            manifest=key,
        )
        summary = report.push(xcom_summary(manifest, key))
        if failed:
            raise WorkFailedError(f"{failed} of {counts['total_clients']} clients failed; see {key}")
        report.update_asset({"trigger_date": manifest.plan.day.isoformat(), **counts, "manifest": key})
        return summary


def xcom_summary(manifest: Manifest, key: str) -> dict[str, Any]:
    """What goes to XCom: the manifest itself, or its numbers and first errors where it is long."""
    if manifest.counts["total_clients"] <= XCOM_CLIENTS:
        return {**manifest.to_document(), "manifest": key}
    summary = manifest.summary()
    return {**summary, "errors": summary["errors"][:XCOM_CLIENTS], "manifest": key}


async def _log_in(dex: DexApi) -> None:
    async with dex:
        await dex.log_in()
