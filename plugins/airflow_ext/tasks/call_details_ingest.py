"""The tasks of ``call_details_ingest``: Airflow's context on one side, :mod:`include.call_details` on the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NoReturn

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException

from airflow_ext.defaults import began_at, by_person, is_last_try
from airflow_ext.hooks.call_details import CallDetailsClients
from airflow_ext.ids import XComKey
from airflow_ext.metrics import RunReport, task_states
from airflow_ext.notifications.failure_callback import push_quietly, record_failure, safe_text
from include.alerts import KILLED, Section
from include.call_details.alerts import PLAN_TASK, POST_TASK, no_receipt, receipt_alert, shared_alert
from include.call_details.models import Done, FileVersion
from include.call_details.planner import Planner, find, read_plan, resolve
from include.call_details.poster import post_chunk as post
from include.call_details.poster import post_files
from include.call_details.reconcile import Closing, SavedReceipt
from include.call_details.shared_run import (
    Member,
    claimed,
    close_files,
    is_list,
    plan_files,
    read_files,
    read_shared_plan,
    totals,
)
from include.errors import (
    FileHeldError,
    InvalidFileError,
    PermanentError,
    RetryableFailuresError,
    RunRefusedError,
    StorageRefusedError,
    TransientError,
    WorkFailedError,
)

log = logging.getLogger(__name__)

XCOM_PROBLEMS = 20
"""Up to this many problems are in XCom; the receipts in S3 have all."""

_MAX_LABEL = 250
_SHOWN = 3


_ASSET_FACTS = ("bucket", "key", "etag", "outcome", "records_read", "records_accepted", "records_dead_lettered")


def plan(context: Context) -> list[int]:
    """Claim the run's file version, and cut it into chunks.

    Returns their indexes; none if the version is done already, or holds no record.
    """
    ti, params, run_id = context["ti"], context["params"], context["dag_run"].run_id
    with record_failure(ti):
        clients = CallDetailsClients(params["bucket"])
        if is_list(params["key"]):
            return _plan_shared(context, clients)
        file = _wanted(context, clients)
        ti.xcom_push(key=XComKey.FILE, value=asdict(file))
        planning = Planner(clients.store, clients.claims, records_per_batch=clients.settings.max_records_per_batch)
        claim = planning.claim(file, run_id, force=params["force"])
        if isinstance(claim, Done):
            receipt = clients.store.read_json(claim.receipt) or {}
            dead = receipt.get("records_dead_lettered", 0)
            done = {"run_id": claim.owner, "receipt": claim.receipt, "records_dead_lettered": dead}
            ti.xcom_push(key=XComKey.DONE, value=done)
            log.info("%s (%s) was ingested by run %s: nothing is posted", file.key, file.etag, claim.owner)
            return []
        try:
            found = planning.plan(claim)
        except InvalidFileError as error:
            push_quietly(ti, XComKey.UNREADABLE, safe_text(error))
            raise
        log.info("%d records in %d batches in %d chunks", found.records, found.batches, len(found.chunks))
        return [chunk.index for chunk in found.chunks]


def _plan_shared(context: Context, clients: CallDetailsClients) -> list[int]:
    """The indexes of the tasks that files are divided among which share the run."""
    key, run_id = context["params"]["key"], context["dag_run"].run_id
    with _bucket_that_was_named(context):
        files = read_files(clients.store, key)
    planner = Planner(clients.store, clients.claims, records_per_batch=clients.settings.max_records_per_batch)
    force = context["params"]["force"]
    planned = plan_files(planner, files, list_key=key, run_id=run_id, force=force)
    context["ti"].xcom_push(key=XComKey.PLAN, value=planned.key)
    failed = [member for member in planned.members if member.error is not None]
    for member in failed:
        log.warning("%s (%s) is not posted: %s", member.file.key, member.file.etag, member.error)
    if failed and all(member.passing for member in planned.members):
        raise RetryableFailuresError(f"none of {len(files)} files could be planned, the first for {failed[0].error}")
    slices = planned.slices
    log.info("%d files, %d of them are not posted, in %d tasks", len(files), len(failed), len(slices))
    return list(range(len(slices)))


def post_chunk(context: Context, index: int) -> dict[str, int]:
    """Post what is left of one chunk, or of files that share the run.

    Returns how many of its batches were accepted, and how many are dead letters; or how many files were posted.
    """
    ti = context["ti"]
    with record_failure(ti):
        if is_list(context["params"]["key"]):
            return _post_shared(context, index)
        file = FileVersion(**ti.xcom_pull(task_ids=PLAN_TASK, key=XComKey.FILE))
        clients = CallDetailsClients(file.bucket)
        claim = clients.claims.current(file, context["dag_run"].run_id)
        found = read_plan(clients.store, claim)
        chunk = found.chunks[index]
        label = f"records {chunk.first_record:,}-{chunk.first_record + chunk.records - 1:,}"
        context["label"] = label  # type: ignore[typeddict-unknown-key] # read by map_index_template
        state = asyncio.run(post(clients.posting_context(last_try=is_last_try(context)), claim, found, chunk))
        log.info("%s: %d batches accepted, %d dead letters", label, state.accepted_batches, len(state.dead))
        return {"accepted": state.accepted_batches, "dead_lettered": len(state.dead)}


def _post_shared(context: Context, index: int) -> dict[str, int]:
    clients = CallDetailsClients(context["params"]["bucket"])
    slices = read_shared_plan(clients.store, context["ti"].xcom_pull(task_ids=PLAN_TASK, key=XComKey.PLAN)).slices
    members = slices[index]
    label = f"{len(members)} files from {members[0].file.key}"
    context["label"] = safe_text(label)[:_MAX_LABEL]  # type: ignore[typeddict-unknown-key] # read by map_index_template
    owned = list(claimed(clients.claims, members, context["dag_run"].run_id))
    posting = clients.posting_context(last_try=is_last_try(context))
    failed = asyncio.run(post_files(posting, owned, tasks=len(slices)))
    log.info("%d files: %d were posted before or now", len(members), len(owned) - len(failed))
    if failed:
        shown = "; ".join(f"{file.key}: {error}" for file, error in list(failed.items())[:_SHOWN])
        message = f"{len(failed)} of {len(members)} files could not be posted: {shown}"
        if any(isinstance(error, TransientError) for error in failed.values()):
            raise RetryableFailuresError(message)
        raise WorkFailedError(message)
    return {"files": len(owned)}


def reconcile(context: Context) -> dict[str, Any]:
    """Account for every record, move the file on, and send the run's alert if there is one.

    Returns the receipt, less its ranges; it is in XCom also when the run fails.

    Raises:
        WorkFailedError: some records are neither accepted nor saved as dead letters, or the file could not be planned.
        RunRefusedError: a person asked for a file that is not there, or that another run has.
        AirflowSkipException: the file had been ingested before.
    """
    ti = context["ti"]
    with record_failure(ti):
        planned = task_states(context, PLAN_TASK).get(PLAN_TASK) == "success"
        if is_list(context["params"]["key"]):
            return _close_shared(context, planned=planned)
        done = ti.xcom_pull(task_ids=PLAN_TASK, key=XComKey.DONE) if planned else None
        if done is None:
            return _close(context, planned=planned)
        report = RunReport(context, CallDetailsClients().settings)
        _count(report, {}, failed=False)
        # Missing in what a task of the version before the deployment pushed.
        dead = done.get("records_dead_lettered", 0)
        report.note(
            "Nothing was posted: the file had been ingested before",
            section=Section.CALL_DETAILS_DEAD_LETTERS if dead else None,
            by=done["run_id"],
            receipt=done["receipt"],
            dead_letters=dead or None,
        )
        report.push(done)
    # Outside the block: this is no failure.
    but = f" but for {dead:,} records, which were dead letters: call_details_replay posts these" if dead else ""
    raise AirflowSkipException(
        f"nothing was posted: run {done['run_id']} has ingested this file{but}, see {done['receipt']}; to post it "
        "again, give the param force"
    )


def _close(context: Context, *, planned: bool) -> dict[str, Any]:
    ti = context["ti"]
    file = ti.xcom_pull(task_ids=PLAN_TASK, key=XComKey.FILE)
    # Who marks the task as a success by hand does not make a plan.
    planned = planned and file is not None
    reason = None if planned else ti.xcom_pull(task_ids=PLAN_TASK, key=XComKey.FAILURE) or KILLED
    clients = CallDetailsClients(file["bucket"] if file else None)
    report = RunReport(context, clients.settings)
    if not planned:
        report.raise_refusal(PLAN_TASK, "nothing was ingested", FileHeldError)
    saved = _receipt(context, clients, FileVersion(**file), reason) if file else None
    if saved is None:
        _end_without_files(report, str(reason))
    _count(report, saved.document, failed=saved.outcome.failed)
    report.about(saved.day)
    uri = f"s3://{clients.bucket}/{saved.key}"
    report.alert(receipt_alert(saved, report.run, uri=uri, why_failed=lambda index: report.failure(POST_TASK, index)))
    key, etag, lies_at = (saved.document[name] for name in ("key", "etag", "stored_as"))
    log.info("file %s (ETag %s) %s: it is now at %s, receipt %s", key, etag, saved.outcome, lies_at, saved.key)
    _note(report, saved)
    # Without its ranges, of which there may be hundreds.
    shown = {name: value for name, value in saved.document.items() if name != "ranges"}
    summary = report.push({**shown, "problems": shown["problems"][:XCOM_PROBLEMS], "receipt": saved.key})
    if saved.outcome.failed:
        raise WorkFailedError(f"{key} ended {saved.outcome.value}: see {saved.key}")
    report.update_asset({**{name: saved.document.get(name) for name in _ASSET_FACTS}, "receipt": saved.key})
    return summary


def _end_without_files(report: RunReport, reason: str) -> NoReturn:
    _count(report, {}, failed=True)
    report.alert(no_receipt(report.run, reason=reason))
    report.note(f"Nothing was ingested: {PLAN_TASK} failed: {reason}", section=Section.INGEST_RUN)
    raise WorkFailedError(f"nothing was ingested: {PLAN_TASK} failed: {reason}")


def _close_shared(context: Context, *, planned: bool) -> dict[str, Any]:
    """Account for every file that shares the run; what became of one is in its receipt and its alert."""
    clients, run_id = CallDetailsClients(context["params"]["bucket"]), context["dag_run"].run_id
    report = RunReport(context, clients.settings)
    slices: list[tuple[Member, ...]] = []
    made = report.pull(PLAN_TASK, XComKey.PLAN) if planned else None
    planned = made is not None
    if made is not None:
        plan = read_shared_plan(clients.store, made)
        members, slices = plan.members, plan.slices
    else:
        report.raise_refusal(PLAN_TASK, "nothing was ingested")
        reason = report.failure(PLAN_TASK) or KILLED
        try:
            files = read_files(clients.store, context["params"]["key"])
        except PermanentError:
            _end_without_files(report, reason)
        members = tuple(Member(file, error=reason) for file in files)
    closed = close_files(
        clients.store,
        clients.claims,
        members,
        run_id=run_id,
        started_at=began_at(context),
        now=lambda: datetime.now(UTC),
    )
    if days := [each.saved.day for each in closed if each.saved is not None]:
        report.about(max(days))
    tasks = {member.file: index for index, some in enumerate(slices) for member in some}
    alerts = [
        receipt_alert(
            each.saved,
            report.run,
            uri=f"s3://{clients.bucket}/{each.saved.key}",
            why_failed=lambda index: report.failure(POST_TASK, index),
            task_index=tasks.get(each.member.file),
        )
        for each in closed
        if planned and each.saved is not None
    ]
    # Where nothing was planned for one reason, one alert says so.
    lost = {each.member.file.key: each.reason for each in closed if each.reason and not (planned and each.saved)}
    alerts.append(shared_alert(lost, report.run, task=PLAN_TASK, files=len(members)))
    failed = [each.member.file.key for each in closed if each.failed]
    summary = {"bucket": clients.bucket, "key": context["params"]["key"], **totals(closed)}
    _count(report, summary, failed=bool(failed))
    report.alert(*alerts)
    report.note(
        f"{summary['records_accepted']:,} of {summary['records_read']:,} records of {len(members):,} files accepted",
        section=Section.INGEST_RUN if failed or any(alerts) else None,
        **{outcome.replace(" ", "_"): number for outcome, number in summary["outcomes"].items()},
        failed=", ".join(failed) or None,
        files=", ".join(member.file.key for member in members),
        all_files=context["params"]["key"],
    )
    pushed = report.push({**summary, "failed": failed[:XCOM_PROBLEMS]})
    if failed:
        shown = ", ".join(failed[:_SHOWN])
        raise WorkFailedError(f"{len(failed)} of {len(members)} files failed, such as {shown}: see their receipts")
    report.update_asset(summary)
    return pushed


def _receipt(
    context: Context, clients: CallDetailsClients, file: FileVersion, reason: str | None
) -> SavedReceipt | None:
    """The run's receipt; ``reason`` is why its file was not planned, if it was not."""
    dag_run = context["dag_run"]
    closing = Closing(
        store=clients.store,
        claims=clients.claims,
        file=file,
        run_id=dag_run.run_id,
        started_at=began_at(context),
        now=datetime.now(UTC),
    )
    if reason is None:
        return closing.planned()
    unreadable = context["ti"].xcom_pull(task_ids=PLAN_TASK, key=XComKey.UNREADABLE)
    return closing.unreadable(unreadable) if unreadable else closing.not_planned(reason)


@contextmanager
def _bucket_that_was_named(context: Context) -> Iterator[None]:
    """A bucket that refuses is a matter of who named it, if somebody did."""
    try:
        yield
    except StorageRefusedError as error:
        if context["params"]["bucket"] is None:
            raise
        raise RunRefusedError(f"param bucket: {error}") from error


def _wanted(context: Context, clients: CallDetailsClients) -> FileVersion:
    """The version that the params mean; what a person asks for is looked for before anything is claimed."""
    params, had = context["params"], None
    if not params["etag"]:
        # Cleared or tried again, the run goes on with the version that it had, whatever was dropped since.
        had = clients.claims.begun_by(context["dag_run"].run_id, clients.bucket, params["key"])
    with _bucket_that_was_named(context):
        file = had or resolve(clients.store, params["key"], params["etag"])
        if not by_person(context) or find(clients.store, file) is not None:
            return file
    if not params["force"] and clients.claims.is_done(file):
        # The run says so, though the file itself has expired.
        return file
    raise RunRefusedError(f"params key and etag: {file.key!r} ({file.etag}) is nowhere in bucket {clients.bucket}")


def _count(report: RunReport, found: Mapping[str, Any], *, failed: bool) -> None:
    """Publish the run's metrics; a run without a receipt posted nothing."""
    accepted, dead = found.get("records_accepted", 0), found.get("records_dead_lettered", 0)
    report.count({"AcceptedRecords": accepted, "DeadLetteredRecords": dead}, failed=failed)


def _note(report: RunReport, saved: SavedReceipt) -> None:
    found, section = saved.document, None
    if saved.outcome.failed or found["invalid_bytes"]:
        section = Section.INGEST_RUN
    elif found["records_dead_lettered"]:
        section = Section.CALL_DETAILS_DEAD_LETTERS
    report.note(
        f"{found['records_accepted']:,} of {found['records_read']:,} records accepted: {saved.outcome.value}",
        section=section,
        file=found["key"],
        dead_letters=found["records_dead_lettered"],
        lies_at=found["stored_as"],
        receipt=saved.key,
    )
