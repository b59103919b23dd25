"""The alerts of the call-details DAGs: at most one for a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from include.alerts import KILLED, MAX_FAILURES, Alert, Failure, RunRef, Section, Severity
from include.call_details.dead_letters import ReplayResult
from include.call_details.models import FileOutcome
from include.call_details.reconcile import SavedReceipt
from include.call_details.watcher import LeftFile

CLAIM_TASK = "claim_files"
PLAN_TASK = "plan"
POST_TASK = "post_chunk"
REPLAY_TASK = "replay"

WhyFailed = Callable[[int], str | None]
"""The recorded reason of a chunk's failed task, by the task's index."""


def receipt_alert(
    saved: SavedReceipt, run: RunRef, *, uri: str, why_failed: WhyFailed, task_index: int | None = None
) -> Alert | None:
    """The alert of a run that left a receipt, or None if every record was accepted as it was delivered.

    Where chunks are not complete, ``why_failed`` is asked; ``task_index`` is that of the mapped task which posts the
    file, if it is not the chunk's.
    """
    found = saved.document
    file = found["key"]
    facts = [f"file: s3://{found['bucket']}/{file} ({found['etag']})", f"receipt: {uri}"]
    if found["stored_as"] is not None:
        facts.append(f"it is now at: {found['stored_as']}")
    if found["error"] is not None:
        return _not_planned(saved, run, facts)
    if found["problems"]:
        return _incomplete(saved, run, facts, why_failed, task_index)
    headlines = []
    if found["batches_dead_lettered"]:
        headlines.append(
            f"{found['batches_dead_lettered']:,} of {found['batches_read']:,} batches of {file} could not be delivered"
        )
        facts.append(
            f"{found['records_dead_lettered']:,} records are kept as dead letters: run call_details_replay when the "
            "API accepts them"
        )
    if (intruder := found.get("not_ingested")) is not None:
        headlines.append(f"another object was put in the place of {file} while it was ingested")
        facts.append(f"that object is at {intruder} and was not ingested: drop it as a file, or delete it")
    if found["invalid_bytes"]:
        headlines.append(f"{found['invalid_bytes']:,} bytes of {file} are not valid UTF-8")
        facts.append(
            "its records were posted with U+FFFD in place of the invalid bytes: have the file delivered as UTF-8, or "
            "as UTF-16 with its byte order mark"
        )
    if not headlines:
        return None
    section = Section.CALL_DETAILS_DEAD_LETTERS if found["batches_dead_lettered"] else Section.INGEST_RUN
    return run.alert(Severity.WARNING, "; ".join(headlines), facts, section=section)


def no_receipt(run: RunRef, *, reason: str) -> Alert:
    """The alert of a run that never had a file to work on, or lost it."""
    failure = run.failure("the file", reason, PLAN_TASK)
    return run.alert(Severity.ERROR, "nothing was ingested by this run", (), [failure], section=Section.INGEST_RUN)


def shared_alert(reasons: Mapping[str, str], run: RunRef, *, task: str, files: int) -> Alert | None:
    """The alert of files of a shared run, by key, that have no receipt which says more, or None if there are none."""
    if not reasons:
        return None
    failures = [run.failure(f"file {key}", reason, task) for key, reason in reasons.items()]
    headline = f"{len(reasons):,} of {files:,} files that share this run were not ingested by it"
    return run.alert(
        Severity.ERROR, headline, ["clear the run when the cause is fixed"], failures, section=Section.INGEST_RUN
    )


def left_alert(left: Sequence[LeftFile], run: RunRef) -> Alert:
    """The alert of files that cannot be taken in."""
    failures = [run.failure(f"file {each.key}", each.reason, CLAIM_TASK) for each in left]
    headline = f"files that cannot be taken in and stay where they were dropped: {len(left):,}"
    facts = ["each round tries them again; a file that is still left after a day is reported again"]
    return run.alert(Severity.ERROR, headline, facts, failures, section=Section.WATCH)


def beside_alert(beside: Sequence[LeftFile], run: RunRef) -> Alert:
    """The alert of files that nothing takes."""
    failures = [run.failure(f"file {each.key}", each.reason, CLAIM_TASK) for each in beside]
    headline = f"files that were dropped where none are taken: {len(beside):,}"
    facts = ["they stay where they are, and are reported this once"]
    return run.alert(Severity.WARNING, headline, facts, failures, section=Section.WATCH)


def replay_alert(result: ReplayResult, run: RunRef) -> Alert:
    """The alert of a replay that left messages in the queue."""
    left = result.failed + result.unreadable
    reason = f"{result.failed:,} were refused again, {result.unreadable:,} cannot be read; its log names each"
    failure = run.failure(f"{left:,} dead letters", reason, REPLAY_TASK)
    headline = f"{left:,} of {result.received:,} dead letters stay in the queue"
    return run.alert(Severity.ERROR, headline, (), [failure], section=Section.CALL_DETAILS_DEAD_LETTERS)


def _not_planned(saved: SavedReceipt, run: RunRef, facts: list[str]) -> Alert:
    found = saved.document
    headline = f"nothing of {found['key']} was posted"
    if saved.outcome is FileOutcome.INCOMPLETE:
        headline = (
            f"{found['key']} could not be planned again; {_accounted(found):,} of its {found['records_read']:,} "
            "records are accounted for"
        )
    if saved.outcome is not FileOutcome.UNREADABLE and found["stored_as"] is not None:
        facts = [*facts, "nothing is lost: clear the run when the cause is fixed"]
    failure = run.failure(f"file {found['key']}", found["error"], PLAN_TASK)
    return run.alert(Severity.ERROR, headline, facts, [failure], section=Section.INGEST_RUN)


def _accounted(found: dict[str, Any]) -> int:
    return int(found["records_accepted"] + found["records_dead_lettered"])


def _incomplete(
    saved: SavedReceipt, run: RunRef, facts: list[str], why_failed: WhyFailed, task_index: int | None
) -> Alert:
    found = saved.document
    failures: list[Failure] = []
    for index, each in enumerate(found["ranges"]):
        if each["batches_accepted"] + each["batches_dead_lettered"] != each["batches_read"]:
            first, last = each["first_record"], each["first_record"] + each["records_read"] - 1
            what = f"records {first:,} to {last:,}"
            # Each question is a request, and no more answers than these are shown.
            map_index = index if task_index is None else task_index
            reason = (why_failed(map_index) if len(failures) < MAX_FAILURES else None) or KILLED
            failures.append(run.failure(what, reason, POST_TASK, map_index))
    if not failures:
        # The chunks are complete, and yet it does not add up.
        facts = [*facts, *found["problems"]]
    headline = f"only {_accounted(found):,} of {found['records_read']:,} records of {found['key']} are accounted for"
    return run.alert(Severity.ERROR, headline, facts, failures, section=Section.INGEST_RUN)
