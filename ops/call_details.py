"""Files of call details: waiting, under way with their progress, done; and dead letters, those of events too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from include.call_details.dead_letters import described, peek
from include.call_details.keys import INCOMING, Incoming, past_own
from include.call_details.ledger import Claims, read_chunks
from include.call_details.models import Claim
from include.call_details.planner import known_plan
from include.call_details.storage import FileStore
from include.clients.dynamodb import ItemTable
from include.clients.s3 import get_json, get_object
from include.text import UNREADABLE, array_texts
from ops import runs
from ops.environment import Environment, aws_errors
from ops.report import OpsError, Report, age

_SHOWN = 25


def files(environment: Environment) -> Report:
    """What lies in the bucket or has a claim: at most ``_SHOWN`` of each kind."""
    bucket = environment.output("IngestBucketName")
    s3 = environment.aws("s3")
    table = ItemTable(environment.aws("dynamodb"), environment.output("IngestLedgerTableName"))
    incoming = Incoming(environment.parameter("IncomingPrefix", INCOMING), ())
    with aws_errors("S3"):
        waiting = [
            {"state": "waiting", "file": item["Key"], "bytes": item["Size"], "since": age(item["LastModified"])}
            for item in islice(_dropped(s3, bucket, incoming), _SHOWN)
        ]
        under_way = [_under_way(s3, table, claim) for claim in Claims(table).under_way(_SHOWN)[0]]
        receipts = sorted(_listed(s3, bucket, "receipts/"), key=lambda item: item["LastModified"], reverse=True)
        done = [_done(s3, bucket, item) for item in receipts[:_SHOWN]]
    columns = {
        "state": "state",
        "file": "file",
        "bytes": "bytes",
        "progress": "batches",
        "since": "for",
        "run": "run of call_details_ingest",
    }
    return Report(f"files of call details in {environment.name}", columns, [*waiting, *under_way, *done])


def _dropped(s3: Any, bucket: str, incoming: Incoming) -> Iterator[dict[str, Any]]:
    """Files that wait, by their keys: a page is listed at a time, and nothing that the ingest keeps in the bucket."""
    more: dict[str, str] | None = {}
    while more is not None:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=incoming.prefix, **more)
        more = None
        for item in chain.from_iterable(page.get("Contents", []) for page in pages):
            if after := past_own(item["Key"]):
                more = {"StartAfter": after}
                break
            if incoming.takes(item["Key"]):
                yield item


def _listed(s3: Any, bucket: str, prefix: str) -> list[dict[str, Any]]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [item for page in pages for item in page.get("Contents", [])]


def _under_way(s3: Any, table: ItemTable, claim: Claim) -> dict[str, Any]:
    file = claim.file
    row: dict[str, Any] = {"state": "claimed", "file": file.key, "etag": file.etag, "run": claim.owner}
    plan = known_plan(FileStore(s3, file.bucket), claim)
    if plan is None:
        return row
    settled = sum(chunk.settled_batches for chunk in read_chunks(table, claim))
    total = plan.batches
    return {**row, "state": "under way", "progress": f"{settled:,} of {total:,}", "settled": settled, "batches": total}


def _done(s3: Any, bucket: str, item: dict[str, Any]) -> dict[str, Any]:
    since = f"{age(item['LastModified'])} ago"
    try:
        receipt: dict[str, Any] = get_json(s3, bucket, item["Key"])
        return {
            "state": receipt["outcome"],
            "file": receipt["key"],
            "bytes": receipt.get("bytes"),
            "progress": f"{receipt['records_accepted']:,} of {receipt['records_read']:,} records accepted",
            "since": since,
            "run": receipt.get("run_id"),
        }
    except UNREADABLE:
        # What others put there, such as a folder of the console, and what was deleted meanwhile.
        return {"state": "no receipt", "file": item["Key"], "bytes": item["Size"], "since": since}


REPLAY = "call_details_replay"

_MOST = 100


def listed(environment: Environment) -> Report:
    """What waits in both queues; nothing is taken away."""
    sqs = environment.aws("sqs")
    batches = environment.output("CallDetailsDeadLettersUrl")
    events = environment.output("EventDeadLettersUrl")
    with aws_errors("SQS"):
        rows = [described(message) for message in peek(sqs, batches, _MOST)] + [
            _event(message) for message in peek(sqs, events, _MOST)
        ]
        waiting = {url: _waiting(sqs, url) for url in (batches, events)}
    columns = {"kind": "kind", "what": "what", "records": "records", "attempts": "attempts", "status": "status"}
    notes = [
        f"Batches of call details: {waiting[batches]:,}. Events: {waiting[events]:,}. Shown: at most {_MOST} of each.",
    ]
    if waiting[batches]:
        notes.append("Batches: 'ops dead-letters show KEY' shows a body, 'ops dead-letters replay [KEY]' posts again.")
    if waiting[events]:
        notes.append("Events: their owner posts /events/<id>/replay; 'ops owner NAME' shows the reasons.")
    return Report(
        f"dead letters in {environment.name}", {**columns, "first": "first failed", "error": "error"}, rows, notes
    )


def shown(environment: Environment, key: str) -> Report:
    """The body of a batch, by its key as :func:`listed` names it, each record as it was sent; else OpsError."""
    with aws_errors("S3"):
        found = get_object(environment.aws("s3"), environment.output("IngestBucketName"), key)
    records = array_texts(found[0].decode("utf-8", "replace"), "records") if found else None
    if records is None:
        raise OpsError(f"there is no dead letter {key}: 'ops dead-letters list' names them")
    rows = [{"number": number, "record": record} for number, record in enumerate(records, 1)]
    return Report(key, {"number": "#", "record": "record"}, rows)


def replayed(
    environment: Environment,
    chosen: Sequence[str],
    *,
    limit: int,
    dry_run: bool,
    agree: Callable[[str], None],
    tell: Callable[[str], None],
) -> Report:
    """Post batches again through the DAG ``call_details_replay``, after showing what that would do.

    Only those ``chosen`` by the keys that :func:`listed` names, or all if there are none, up to the limit. ``agree``
    asks a person, and raises if the answer is no; ``tell`` says what is going on.
    """
    waiting = _waiting(environment.aws("sqs"), environment.output("CallDetailsDeadLettersUrl"))
    if not dry_run:
        agree(f"Post {min(limit, len(chosen) or waiting):,} of {waiting:,} batches again in {environment.name}?")
    params = {"limit": limit, "dry_run": dry_run, **({"dead_letters": list(chosen)} if chosen else {})}
    run_id = runs.start(environment, REPLAY, params)
    tell(f"run {run_id} has started")
    run = runs.wait(environment, REPLAY, run_id)
    notes = [] if run["state"] == "success" else ["The run failed: 'ops failed call_details_replay' says why."]
    try:
        result = runs.returned(environment, REPLAY, run_id, "replay")
    except OpsError as error:
        # It was done all the same: not all who may start runs may see XComs. The note of the run has the numbers, too.
        result, notes = None, [*notes, f"The numbers cannot be read ({error}): see the note of the run."]
    rows = [{"what": name.replace("_", " "), "count": value} for name, value in (result or {}).items()]
    return Report(
        f"replay {run_id}: {run['state']}",
        {"what": "", "count": ""},
        rows,
        notes,
        failed=run["state"] != "success",
    )


def _waiting(sqs: Any, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    with aws_errors("SQS"):
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def _event(text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(text)
        return {
            "kind": "event",
            "what": f"{found['event_id']} of {found['owner']}",
            "attempts": found["attempts"],
            "status": found["last_status"],
            "first": found.get("first_failed_at") or found.get("failed_at"),
            "error": found["error"],
        }
    except UNREADABLE:
        return {"kind": "event", "what": "a message that is none of ours"}
