"""What people are told of an ingest run: one alert, if there is something to tell."""

from __future__ import annotations

from collections.abc import Callable

from include.alerts import MAX_FAILURES, Alert, Failure, Severity
from include.ingest.closing import KeptReceipt
from include.ingest.replay import ReplayResult

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
        failure = Failure(f"file {file}", found["error"], PLAN_TASK, None, log_url(PLAN_TASK, None))
        return Alert(Severity.ERROR, pipeline, found["run_id"], f"nothing of {file} was posted", facts, [failure])
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


def replay_alert(result: ReplayResult, *, pipeline: str, run_id: str, log_url: LogUrl) -> Alert:
    """The alert of a replay that left messages in the queue."""
    left = result.failed + result.unreadable
    reason = f"{result.failed:,} were refused again, {result.unreadable:,} cannot be read; its log names each"
    failure = Failure(f"{left:,} dead letters", reason, REPLAY_TASK, None, log_url(REPLAY_TASK, None))
    headline = f"{left:,} of {result.received:,} dead letters stay in the queue"
    return Alert(Severity.ERROR, pipeline, run_id, headline, (), [failure])


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
    accounted = found["records_accepted"] + found["records_dead_lettered"]
    headline = f"only {accounted:,} of {found['records_read']:,} records of {found['key']} are accounted for"
    return Alert(Severity.ERROR, pipeline, found["run_id"], headline, facts, failures)
