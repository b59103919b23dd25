"""Files: call details that wait, that are under way and how far, what was done, and dead letters."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

from fastapi import APIRouter, HTTPException

from airflow_ext.ids import CALL_DETAILS_INGEST, CALL_DETAILS_REPLAY
from airflow_ext.operations.reading import ROWS, Reads, page
from airflow_ext.operations.routing import Cursor, answers, bodies, get, metadata, shown
from airflow_ext.outside import outside
from include.call_details.dead_letters import described, peek
from include.call_details.keys import OWN_PREFIXES, origin, past_own, processed_prefix, receipt_key
from include.call_details.ledger import Claims, read_chunks
from include.call_details.models import Claim, Plan
from include.call_details.rate_limit import permits_in_use
from include.clients.dynamodb import ItemTable
from include.clients.s3 import get_json
from include.errors import InvalidInputError
from include.text import UNREADABLE

router = APIRouter(prefix="/files")

MOST_LETTERS = 100
_NEEDED = ("ingest_bucket", "ingest_ledger_table", "call_details_dlq_url")
_METADATA = [metadata(CALL_DETAILS_INGEST)]


@answers(router.get("/waiting", dependencies=_METADATA))
def waiting(reads: Reads, cursor: Cursor = 0) -> dict[str, Any]:
    """Files that are still where they were dropped."""
    settings = reads.require(*_NEEDED)
    incoming = settings.incoming
    # In a whole bucket each of the project's own prefixes ends a page.
    pages = 1 if incoming.prefix else 1 + len(OWN_PREFIXES)
    listed = reads.listed(settings.ingest_bucket, incoming.prefix, pages=pages, past=past_own)
    rows = [
        {"key": each["Key"], "bytes": each["Size"], "since": each["LastModified"].isoformat()}
        for each in listed
        if incoming.takes(each["Key"])
    ]
    rows.sort(key=lambda row: str(row["since"]))
    return {"bucket": settings.ingest_bucket, **page(rows, cursor)}


@answers(router.get("/under-way", dependencies=_METADATA))
def under_way(reads: Reads) -> dict[str, Any]:
    """Files that were claimed, with their progress, and the permits in use."""
    settings = reads.require(*_NEEDED)
    table = ItemTable(reads.aws("dynamodb"), settings.ingest_ledger_table, sleep=outside.sleep)
    claims, total = Claims(table).under_way(ROWS)
    rows = reads.each(lambda claim: _progress(reads, table, claim), claims, "the progress of some files")
    permits = reads.attempt(lambda: permits_in_use(table, outside.now()), "the permits in use")
    return {
        "rows": [
            row or {"key": claim.file.key, "run_id": claim.owner} for row, claim in zip(rows, claims, strict=True)
        ],
        "total": total,
        "permits": permits,
        "permits_of": settings.max_concurrent_calls,
    }


def _progress(reads: Reads, table: ItemTable, claim: Claim) -> dict[str, Any]:
    row: dict[str, Any] = {"key": claim.file.key, "etag": claim.file.etag, "run_id": claim.owner, "begun": claim.begun}
    if claim.plan is None:
        return row
    plan = reads.object("plan", claim.plan, claim.file.partition, lambda: _plan(reads, claim))
    chunks = read_chunks(table, claim)
    records = sum(chunk.records_accepted + chunk.records_dead for chunk in chunks)
    seconds = max(outside.now() - plan["since"], 1.0)
    rate = records / seconds
    return {
        **row,
        "batches": plan["batches"],
        "settled": sum(chunk.settled_batches for chunk in chunks),
        "dead": sum(len(chunk.dead) for chunk in chunks),
        "records": plan["records"],
        "records_settled": records,
        "records_per_second": round(rate, 1),
        "seconds_left": round((plan["records"] - records) / rate) if rate else None,
        "since": datetime.fromtimestamp(plan["since"], UTC).isoformat(),
    }


def _plan(reads: Reads, claim: Claim) -> dict[str, Any]:
    found = reads.aws("s3").get_object(Bucket=reads.settings.ingest_bucket, Key=claim.plan)
    plan = Plan.of(json.loads(found["Body"].read()), claim.file)
    batches, records = (plan.batches, plan.records) if plan else (0, 0)
    return {"batches": batches, "records": records, "since": found["LastModified"].timestamp()}


@answers(router.get("/done", dependencies=_METADATA))
def done(reads: Reads, day: date | None = None, cursor: Cursor = 0) -> dict[str, Any]:
    """Files that were accounted for on a UTC day, the newest first."""
    bucket, day = reads.require(*_NEEDED).ingest_bucket, day or datetime.fromtimestamp(outside.now(), UTC).date()
    listed = [
        each
        for prefix in (processed_prefix(day), "failed/")
        for each in reads.listed(bucket, prefix, pages=6)
        # The day in a key is that of the receipt: the file may be moved there later, and by a repetition once more.
        if prefix != "failed/" or each["LastModified"].astimezone(UTC).date() == day
    ]
    listed.sort(key=lambda each: each["LastModified"], reverse=True)
    found = page(listed, cursor)
    receipts = reads.each(lambda each: _receipt(reads, bucket, each), found["rows"], "some receipts")
    return {
        "day": day,
        "bucket": bucket,
        **found,
        "rows": [
            {"stored_as": each["Key"], "bytes": each["Size"], "at": each["LastModified"].isoformat(), **(receipt or {})}
            for each, receipt in zip(found["rows"], receipts, strict=True)
        ],
    }


def _receipt(reads: Reads, bucket: str, listed: dict[str, Any]) -> dict[str, Any]:
    file = origin(bucket, listed["Key"])
    wanted = ("outcome", "key", "etag", "records_read", "records_accepted", "records_dead_lettered", "run_id", "error")
    try:
        document = get_json(reads.aws("s3"), bucket, receipt_key(file)) if file else None
        return {} if document is None else {name: dict(document).get(name) for name in wanted}
    except UNREADABLE:
        raise InvalidInputError(f"the receipt of s3://{bucket}/{listed['Key']} is none") from None


@answers(router.get("/dead-letters", dependencies=[metadata(CALL_DETAILS_REPLAY)]))
def dead_letters(reads: Reads) -> dict[str, Any]:
    """Batches that could not be delivered: up to 100 messages of the queue, without any record."""
    url = reads.require(*_NEEDED).call_details_dlq_url
    sqs = reads.aws("sqs")
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    total = sum(int(counts[name]) for name in names)
    found = peek(sqs, url, MOST_LETTERS)
    if len(found) < min(total, MOST_LETTERS):
        # Another reader, such as the same page in another window, hides what it received for a second.
        outside.sleep(1.1)
        found = max(peek(sqs, url, MOST_LETTERS), found, key=len)
    return {"rows": [described(text) for text in found], "total": total, "next": None}


@answers(
    router.get("/dead-letters/body", dependencies=bodies(CALL_DETAILS_REPLAY, "operations.dead_letter")), keep=False
)
def dead_letter_body(reads: Reads, key: str, version: str = "") -> dict[str, Any]:
    """The request body of such a batch."""
    if not key.startswith("dead-letter/"):
        raise HTTPException(404, "this is no key of a dead letter")
    which = {"VersionId": version} if version else {}
    return shown(get(reads, key, Bucket=reads.require(*_NEEDED).ingest_bucket, Key=key, **which))
