"""The tasks of ``call_details_watch``: Airflow's context on one side, :mod:`include.call_details` on the other."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import batched, islice
from typing import Any, Literal

from airflow.sdk import Context
from airflow.sdk.types import RuntimeTaskInstanceProtocol

from airflow_ext.defaults import is_last_try
from airflow_ext.hooks.call_details import CallDetailsClients
from airflow_ext.ids import CALL_DETAILS_INGEST
from airflow_ext.metrics import RunReport
from airflow_ext.notifications.failure_callback import record_failure
from airflow_ext.outside import outside
from include.alerts import Section
from include.call_details.alerts import beside_alert, left_alert
from include.call_details.keys import is_shared_run, round_key, run_id
from include.call_details.models import FileVersion, Unfinished
from include.call_details.shared_run import add_files
from include.call_details.storage import FileStore
from include.call_details.watcher import MAX_FILES, Intake, LeftFile, LeftFiles, Taken
from include.errors import FileChangedError, PipelineError, RetryableFailuresError
from include.text import one_line

Start = dict[str, Any]
"""A run to start: arguments of Airflow's operator that triggers runs."""

MAX_RUNS = 1000
"""Runs that a round starts, as Airflow maps 1,024 tasks: one key alone may have had more versions."""

_IDS_OF_A_REQUEST = 40
"""Run ids go into the request's URL."""

MAX_NOTE = 900
"""Of the 1,000 characters that Airflow's table takes as a run's note."""

_SHOWN = 3
_ENDED = ["success", "failed"]

log = logging.getLogger(__name__)


type _State = Literal["missing", "under way", "ended"]
"""Of a run of ``call_details_ingest``."""

type _Runs = dict[str, tuple[Sequence[FileVersion], _State]]
"""Runs to start: their files and states by their ids."""


def claim_files(context: Context) -> list[int]:
    """Take in what was dropped, and what an earlier round took in without starting its run.

    Returns indexes of the runs to start, or to start again because their files were dropped again; at most some 500.
    The runs are in S3: a key that Airflow's database refuses must not keep the others from their runs.

    Raises:
        RetryableFailuresError: there are only files that cannot be taken in, and the task has a retry left: its delay
            is the round's pause, in which it holds no worker.
    """
    with record_failure(context["ti"]):
        clients = CallDetailsClients()
        intake = Intake(clients.store, clients.claims, clients.settings.incoming)
        taken = intake.take()
        # The next round finds the files that are left without a run.
        runs = dict(islice(_runs_to_start(taken, intake, context["ti"]).items(), MAX_RUNS))
        starts = [_start(clients.store, owner, files, state) for owner, (files, state) in runs.items()]
        number = _number_of_files(runs)
        log.info("%d files taken in for %d runs, %d left", number, len(starts), len(taken.left))
        report = RunReport(context, clients.settings)
        report.count({"TakenFiles": number, "LeftFiles": len(taken.left)}, failed=False)
        report.note(
            f"{number:,} files taken in",
            section=Section.WATCH if any(not left.busy for left in taken.left) else None,
            runs=len(starts) if len(starts) < number else None,
            left=len(taken.left),
        )
        _report(report, clients, [*(left for left in taken.left if not left.busy), *_beside(intake)])
        if taken.left and not starts and not is_last_try(context):
            reasons = "; ".join(left.reason for left in taken.left[:_SHOWN])
            raise RetryableFailuresError(f"files that stay where they were dropped: {len(taken.left)}: {reasons}")
        if starts:
            clients.store.write_json(round_key(context["dag_run"].run_id), starts)
        return list(range(len(starts)))


def read_start(context: Context, index: int) -> Start:
    """One of the runs that :func:`claim_files` returned the indexes of."""
    clients = CallDetailsClients()
    key = round_key(context["dag_run"].run_id)
    starts: list[Start] | None = clients.store.read_json(key)
    if starts is None:
        # The next round starts the runs that are missing.
        raise FileChangedError(f"s3://{clients.bucket}/{key} is gone: clear the task 'claim_files'")
    return starts[index]


def _runs_to_start(taken: Taken, intake: Intake, ti: RuntimeTaskInstanceProtocol) -> _Runs:
    # Also those that have their run: one under way is skipped where it would be started.
    runs: _Runs = {owner: (taken.runs[owner], state) for owner, state in _states(taken.runs, ti)}
    unstarted: dict[str, list[Unfinished]] = {}
    for each in intake.without_run():
        owner = each.owner if each.owner and is_shared_run(each.owner) else run_id(each.file)
        if owner not in runs:
            unstarted.setdefault(owner, []).append(each)
    for owner, state in _states(unstarted, ti):
        if _number_of_files(runs) >= MAX_FILES:
            break
        # A run whose claim lapsed had its chance, unless the file was dropped again since.
        begun = all(each.begun for each in unstarted[owner])
        if state == "missing" or (state == "ended" and not begun):
            runs[owner] = sorted((each.file for each in unstarted[owner]), key=lambda file: file.key), state
            log.warning("%d files were claimed before for run %s, which never started", len(unstarted[owner]), owner)
    return runs


def _number_of_files(runs: _Runs) -> int:
    return sum(len(files) for files, _ in runs.values())


def _start(store: FileStore, owner: str, files: Sequence[FileVersion], state: _State) -> Start:
    key: str = files[0].key
    etag: str | None = files[0].etag
    note: str | None = None
    if is_shared_run(owner):
        key, etag = add_files(store, owner, files), None
        names = ", ".join(file.key for file in files)
        note = one_line(f"{len(files)} files, listed in s3://{store.bucket}/{key}: {names}", MAX_NOTE)
    return {
        "trigger_run_id": owner,
        "conf": {"bucket": store.bucket, "key": key, "etag": etag, "force": False},
        "note": note,
        "reset_dag_run": state == "ended",
    }


def _states(run_ids: Iterable[str], ti: RuntimeTaskInstanceProtocol) -> Iterator[tuple[str, _State]]:
    """The ids, each with the state of its run."""
    for group in batched(run_ids, _IDS_OF_A_REQUEST):
        number = ti.get_dr_count(CALL_DETAILS_INGEST, run_ids=list(group))
        ended = ti.get_dr_count(CALL_DETAILS_INGEST, run_ids=list(group), states=_ENDED) if number else 0
        if number not in (0, len(group)) or ended not in (0, number):
            # Usually they are alike, and two requests say so.
            for each in group:
                yield from _states([each], ti)
        else:
            yield from ((each, "ended" if ended else "under way" if number else "missing") for each in group)


def _beside(intake: Intake) -> list[LeftFile]:
    try:
        return intake.beside()
    except PipelineError as error:
        # The files that were taken need their runs all the same.
        log.warning("files beside the prefix cannot be listed: %s", error)
        return []


def _report(report: RunReport, clients: CallDetailsClients, left: Sequence[LeftFile]) -> None:
    known = LeftFiles(clients.table, clients.bucket, clock=outside.now)
    due = known.unreported(left)
    for make, files in (
        (left_alert, [file for file in due if not file.beside]),
        (beside_alert, [file for file in due if file.beside]),
    ):
        if files and report.alert(make(files, report.run), record=False):
            known.note_reported(files)
