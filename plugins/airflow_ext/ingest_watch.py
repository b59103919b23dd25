"""The tasks of ``call_details_watch``: Airflow's context on one side, :mod:`include.ingest` on the other."""

from __future__ import annotations

import logging
from itertools import batched
from typing import TYPE_CHECKING, Any

from airflow_ext.ids import CALL_DETAILS_INGEST
from airflow_ext.ingest_desk import IngestDesk
from airflow_ext.notifications.safety_net import failure_kept
from airflow_ext.run_report import count_run
from include.errors import FilesLeftError
from include.ingest.identity import run_id
from include.ingest.intake import MAX_FILES, Intake

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow.sdk import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from include.ingest.claim import FileVersion

_IDS_OF_A_REQUEST = 40
"""Run ids go into the request's URL."""

_SHOWN = 3

log = logging.getLogger(__name__)

Start = dict[str, Any]
"""A run to start: arguments of :class:`~airflow_ext.operators.start_run.StartRunOperator`."""


def claim_files(context: Context) -> list[Start]:
    """Take in what was dropped, and what an earlier round took in and never got a run.

    Returns:
        the runs to start, at most some 200.

    Raises:
        FilesLeftError: files could not be taken in, and there is no other to start a run for. As long as there is one,
            the rest is left to the next round.
    """
    with failure_kept(context["ti"]):
        desk = IngestDesk()
        intake = Intake(desk.store, desk.claims, records_per_batch=desk.settings.max_records_per_batch)
        taken = intake.take()
        files = dict.fromkeys(taken.files)
        owed = (file for file in intake.owed() if file not in files)
        for file in _without_run(owed, context["ti"]):
            if len(files) >= MAX_FILES:
                break
            log.warning("%s (%s) was claimed before and never got its run", file.key, file.etag)
            files[file] = None
        log.info("%d files taken in, %d left", len(files), len(taken.left))
        if taken.left and not files:
            reasons = "; ".join(left.reason for left in taken.left[:_SHOWN])
            raise FilesLeftError(f"{len(taken.left)} files stay under incoming/: {reasons}")
        counts = {"TakenFiles": float(len(files)), "LeftFiles": float(len(taken.left))}
        count_run(context, counts, failed=False, environment=desk.settings.environment)
        return [_start(file) for file in files]


def _start(file: FileVersion) -> Start:
    return {
        "trigger_run_id": run_id(file),
        "conf": {"bucket": file.bucket, "key": file.key, "etag": file.etag, "force": False},
    }


def _without_run(files: Iterable[FileVersion], ti: RuntimeTaskInstanceProtocol) -> Iterator[FileVersion]:
    """Those of which no run has the id, whatever became of it."""
    for group in batched(files, _IDS_OF_A_REQUEST):
        # Usually all have: a single request says so.
        if _runs(group, ti) < len(group):
            yield from (file for file in group if not _runs([file], ti))


def _runs(files: Iterable[FileVersion], ti: RuntimeTaskInstanceProtocol) -> int:
    return ti.get_dr_count(CALL_DETAILS_INGEST, run_ids=[run_id(file) for file in files])
