"""What people are told of an ingest run: one alert, if there is something to tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from include.alerts import MAX_FAILURES, Alert, Failure, Severity
from include.call_details.dead_letters import ReplayResult
from include.call_details.models import Outcome
from include.call_details.reconcile import KeptReceipt
from include.call_details.watcher import Left

CLAIM_TASK = "claim_files"
PLAN_TASK = "plan"
POST_TASK = "post_chunk"
REPLAY_TASK = "replay"

KILLED = "the task was killed or never ran; see its log"
"""Reason of a task that left none."""

LogUrl = Callable[[str, int | None], str]
"""Link to the log of a task and map index."""

WhyFailed = Callable[[int], str | None]
"""What a chunk's task left as the reason of its failure, by the chunk's index."""


def receipt_alert(
    kept: KeptReceipt, *, pipeline: str, location: str, log_url: LogUrl, why_failed: WhyFailed
) -> Alert | None:
    """The alert of a run that left a receipt, or None if every record was accepted.

    Args:
        kept: the receipt.
        pipeline: id of the DAG.
        location: where the receipt lies.
        log_url: makes links to logs.
        why_failed: is asked for the chunks that are not complete.
    """
    found = kept.document
    file = found["key"]
    facts = [f"file: s3://{found['bucket']}/{file} ({found['etag']})", f"receipt: {location}"]
    if found["stored_as"] is not None:
        facts.append(f"it lies now at: {found['stored_as']}")
    if found["error"] is not None:
        return _not_planned(kept, pipeline, facts, log_url)
    if found["problems"]:
        return _incomplete(kept, pipeline, facts, log_url, why_failed)
    if not found["batches_dead_lettered"]:
        return None
    headline = (
        f"{found['batches_dead_lettered']:,} of {found['batches_read']:,} batches of {file} could not be delivered"
    )
    facts.append(
        f"{found['records_dead_lettered']:,} records are kept as dead letters: run call_details_replay when the API "
        "takes them"
    )
    return Alert(Severity.WARNING, pipeline, found["run_id"], headline, facts)


def no_receipt(*, pipeline: str, run_id: str, reason: str, log_url: LogUrl) -> Alert:
    """The alert of a run that never had a file to work on, or lost it."""
    failure = Failure("the file", reason, PLAN_TASK, None, log_url(PLAN_TASK, None))
    return Alert(Severity.ERROR, pipeline, run_id, "nothing was ingested by this run", (), [failure])


def left_alert(left: Sequence[Left], *, pipeline: str, run_id: str, log_url: LogUrl) -> Alert:
    """The alert of files that cannot be taken in."""
    failures = [Failure(f"file {each.key}", each.reason, CLAIM_TASK, None, log_url(CLAIM_TASK, None)) for each in left]
    headline = f"{len(left):,} files stay under incoming/, as they cannot be taken in"
    facts = ["they are tried again all the time; whoever is not helped is told again after a day"]
    return Alert(Severity.ERROR, pipeline, run_id, headline, facts, failures)


def replay_alert(result: ReplayResult, *, pipeline: str, run_id: str, log_url: LogUrl) -> Alert:
    """The alert of a replay that left messages in the queue."""
    left = result.failed + result.unreadable
    reason = f"{result.failed:,} were refused again, {result.unreadable:,} cannot be read; its log names each"
    failure = Failure(f"{left:,} dead letters", reason, REPLAY_TASK, None, log_url(REPLAY_TASK, None))
    headline = f"{left:,} of {result.received:,} dead letters stay in the queue"
    return Alert(Severity.ERROR, pipeline, run_id, headline, (), [failure])


def _not_planned(kept: KeptReceipt, pipeline: str, facts: list[str], log_url: LogUrl) -> Alert:
    found = kept.document
    headline = f"nothing of {found['key']} was posted"
    if kept.outcome is Outcome.INCOMPLETE:
        headline = (
            f"{found['key']} could not be planned again; {_accounted(found):,} of its {found['records_read']:,} "
            "records are accounted for"
        )
    if kept.outcome is not Outcome.UNREADABLE and found["stored_as"] is not None:
        facts = [*facts, "nothing is lost: clear the run when the cause is mended"]
    failure = Failure(f"file {found['key']}", found["error"], PLAN_TASK, None, log_url(PLAN_TASK, None))
    return Alert(Severity.ERROR, pipeline, found["run_id"], headline, facts, [failure])


def _accounted(found: dict[str, Any]) -> int:
    accounted: int = found["records_accepted"] + found["records_dead_lettered"]
    return accounted


def _incomplete(kept: KeptReceipt, pipeline: str, facts: list[str], log_url: LogUrl, why_failed: WhyFailed) -> Alert:
    found = kept.document
    failures: list[Failure] = []
    for index, each in enumerate(found["ranges"]):
        if each["batches_accepted"] + each["batches_dead_lettered"] != each["batches_read"]:
            first, last = each["first_record"], each["first_record"] + each["records_read"] - 1
            what = f"records {first:,} to {last:,}"
            # Each question is a request, and no more answers than these are shown.
            reason = (why_failed(index) if len(failures) < MAX_FAILURES else None) or KILLED
            failures.append(Failure(what, reason, POST_TASK, index, log_url(POST_TASK, index)))
    if not failures:
        # The chunks are complete, and yet it does not add up.
        facts = [*facts, *found["problems"]]
    headline = f"only {_accounted(found):,} of {found['records_read']:,} records of {found['key']} are accounted for"
    return Alert(Severity.ERROR, pipeline, found["run_id"], headline, facts, failures)
