"""Files of call details: waiting, under way with their progress, and the newest that were done."""

from __future__ import annotations

from typing import Any

from include.call_details.keys import INCOMING, run_id
from include.call_details.ledger import Claims, read_chunks
from include.call_details.models import Unfinished
from include.call_details.planner import known_plan
from include.call_details.storage import FileStore
from include.clients.dynamodb import ItemTable
from include.clients.s3 import get_json
from include.errors import ClaimLostError
from ops.environment import Environment, aws_errors
from ops.report import Report, age

_SHOWN = 25


def files(environment: Environment) -> Report:
    """What lies in the bucket or has a claim: at most ``_SHOWN`` of each kind."""
    bucket = environment.output("IngestBucketName")
    s3 = environment.aws("s3")
    table = ItemTable(environment.aws("dynamodb"), environment.output("IngestLedgerTableName"))
    with aws_errors("S3"):
        waiting = [
            {"state": "waiting", "file": item["Key"], "bytes": item["Size"], "since": age(item["LastModified"])}
            for item in _listed(s3, bucket, INCOMING)
            if not item["Key"].endswith("/")
        ]
        under_way = [_under_way(s3, table, claimed) for claimed in Claims(table).unfinished()[:_SHOWN]]
        receipts = sorted(_listed(s3, bucket, "receipts/"), key=lambda item: item["LastModified"], reverse=True)
        done = [_done(get_json(s3, bucket, item["Key"]), age(item["LastModified"])) for item in receipts[:_SHOWN]]
    columns = {
        "state": "state",
        "file": "file",
        "bytes": "bytes",
        "progress": "batches",
        "since": "for",
        "run": "run of call_details_ingest",
    }
    return Report(f"files of call details in {environment.name}", columns, [*waiting[:_SHOWN], *under_way, *done])


def _listed(s3: Any, bucket: str, prefix: str) -> list[dict[str, Any]]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [item for page in pages for item in page.get("Contents", [])]


def _under_way(s3: Any, table: ItemTable, claimed: Unfinished) -> dict[str, Any]:
    file = claimed.file
    run = claimed.owner or run_id(file)
    row: dict[str, Any] = {"state": "claimed", "file": file.key, "etag": file.etag, "run": run}
    try:
        claim = Claims(table).current(file, run)
    except ClaimLostError:
        return {**row, "run": "by another run, or done by now"}
    plan = known_plan(FileStore(s3, file.bucket), claim)
    if plan is None:
        return row
    settled = sum(chunk.settled_batches for chunk in read_chunks(table, claim))
    total = plan.batches
    return {**row, "state": "under way", "progress": f"{settled:,} of {total:,}", "settled": settled, "batches": total}


def _done(receipt: dict[str, Any], since: str) -> dict[str, Any]:
    return {
        "state": receipt["outcome"],
        "file": receipt["key"],
        "bytes": receipt.get("bytes"),
        "progress": f"{receipt['records_accepted']:,} of {receipt['records_read']:,} records accepted",
        "since": f"{since} ago",
        "run": receipt.get("run_id"),
    }
