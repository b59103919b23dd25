"""The tasks of ``call_details_watch``: Airflow's context on one side, :mod:`include.call_details` on the other."""

from __future__ import annotations

import logging
from enum import Enum, auto
from itertools import batched
from typing import TYPE_CHECKING, Any

from airflow_ext.ids import CALL_DETAILS_INGEST
from airflow_ext.metrics import RunReport
from airflow_ext.notifications.channels import send_alert
from airflow_ext.notifications.failure_callback import record_failure
from airflow_ext.outside import outside
from airflow_ext.tasks.call_details_clients import CallDetailsClients
from include.alerts import Section
from include.call_details.alerts import beside_alert, left_alert
from include.call_details.keys import round_key, run_id
from include.call_details.watcher import MAX_FILES, Intake, LeftFiles
from include.errors import FileChangedError, FilesLeftError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow.sdk import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from include.alerts import RunRef
    from include.call_details.models import FileVersion
    from include.call_details.watcher import LeftFile, Taken

Start = dict[str, Any]
"""A run to start: arguments of Airflow's operator that triggers runs."""

_IDS_OF_A_REQUEST = 40
"""Run ids go into the request's URL."""

_SHOWN = 3
_ENDED = ["success", "failed"]

log = logging.getLogger(__name__)


class _Run(Enum):
    """State of a file version's run."""

    MISSING = auto()
    UNDER_WAY = auto()
    ENDED = auto()


def claim_files(context: Context) -> list[int]:
    """Take in what was dropped, and what an earlier round took in without starting its run.

    Returns:
        indexes of the runs to start, or to start again because their files were dropped again; at most some 200.
        The runs are in S3: a key that Airflow's database refuses must not keep the others from their runs.

    Raises:
        FilesLeftError: there are only files that cannot be taken in, and the task has a retry left: the retry's delay
            is the round's pause, in which it holds no worker.
    """
    with record_failure(context["ti"]):
        clients = CallDetailsClients()
        intake = Intake(clients.store, clients.claims, clients.settings.incoming)
        taken = intake.take()
        starts = _starts(taken, intake, context["ti"])
        log.info("%d files taken in, %d left", len(starts), len(taken.left))
        report = RunReport(context, clients.settings)
        report.count({"TakenFiles": len(starts), "LeftFiles": len(taken.left)}, failed=False)
        report.note(
            f"{len(starts):,} files taken in",
            section=Section.WATCH if any(not left.busy for left in taken.left) else None,
            left=len(taken.left),
        )
        _report(context, clients, report.run, [*(left for left in taken.left if not left.busy), *_beside(intake)])
        if taken.left and not starts and context["ti"].try_number <= context["ti"].max_tries:
            reasons = "; ".join(left.reason for left in taken.left[:_SHOWN])
            raise FilesLeftError(f"{len(taken.left)} files stay where they were dropped: {reasons}")
        if starts:
            clients.store.write_json(round_key(context["dag_run"].run_id), starts)
        return list(range(len(starts)))


def read_start(context: Context, index: int) -> Start:
    """One of the runs that :func:`claim_files` returned the indexes of.

    Raises:
        FileChangedError: the round's list is gone; the next round starts the runs that are missing.
    """
    clients = CallDetailsClients()
    key = round_key(context["dag_run"].run_id)
    starts: list[Start] | None = clients.store.read_json(key)
    if starts is None:
        raise FileChangedError(f"s3://{clients.bucket}/{key} is gone: clear the task 'claim_files'")
    return starts[index]


def _starts(taken: Taken, intake: Intake, ti: RuntimeTaskInstanceProtocol) -> list[Start]:
    # Also those that have their run: one under way is skipped where it would be started.
    starts = {file: _start(file, run) for file, run in _runs(taken.files, ti)}
    unstarted = {each.file: each for each in intake.without_run() if each.file not in starts}
    for file, run in _runs(unstarted, ti):
        if len(starts) >= MAX_FILES:
            break
        # A run whose claim lapsed had its chance, unless the file was dropped again since.
        if run is _Run.MISSING or (run is _Run.ENDED and not unstarted[file].begun):
            log.warning("%s (%s) was claimed before, but its run never started", file.key, file.etag)
            starts[file] = _start(file, run)
    return list(starts.values())


def _start(file: FileVersion, run: _Run) -> Start:
    return {
        "trigger_run_id": run_id(file),
        "conf": {"bucket": file.bucket, "key": file.key, "etag": file.etag, "force": False},
        "reset_dag_run": run is _Run.ENDED,
    }


def _runs(files: Iterable[FileVersion], ti: RuntimeTaskInstanceProtocol) -> Iterator[tuple[FileVersion, _Run]]:
    """The files, each with the state of its run."""
    for group in batched(files, _IDS_OF_A_REQUEST):
        ids = [run_id(file) for file in group]
        number = ti.get_dr_count(CALL_DETAILS_INGEST, run_ids=ids)
        ended = ti.get_dr_count(CALL_DETAILS_INGEST, run_ids=ids, states=_ENDED) if number else 0
        if number not in (0, len(group)) or ended not in (0, number):
            # Usually they are alike, and two requests say so.
            for file in group:
                yield from _runs([file], ti)
        else:
            run = _Run.ENDED if ended else _Run.UNDER_WAY if number else _Run.MISSING
            yield from ((file, run) for file in group)


def _beside(intake: Intake) -> list[LeftFile]:
    try:
        return intake.beside()
    except PipelineError as error:
        # The files that were taken need their runs all the same.
        log.warning("files beside the prefix cannot be listed: %s", error)
        return []


def _report(context: Context, clients: CallDetailsClients, run: RunRef, left: Sequence[LeftFile]) -> None:
    known = LeftFiles(clients.table, clients.bucket, clock=outside.now)
    due = known.unreported(left)
    for make, files in (
        (left_alert, [file for file in due if not file.beside]),
        (beside_alert, [file for file in due if file.beside]),
    ):
        if files and send_alert(make(files, run), context, topic_arn=clients.settings.alerts_topic_arn):
            known.note_reported(files)
