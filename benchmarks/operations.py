"""The operations page beside its AWS calls alone, and the API server's start with and without the plugin."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from itertools import batched
from typing import Any

from benchmarks.bench import Bench, BenchmarkError
from benchmarks.results import Comparison, Part, median_and_range, run_python
from include.archive.keys import archive_key, manifest_key
from include.auction.keys import order_id
from include.auction.models import OrderOutcome, Result, Summary
from include.call_details.dead_letters import DeadLetter, DeadLetters
from include.call_details.keys import plan_key, processed_key, processing_key, receipt_key, run_id
from include.call_details.ledger import Claims
from include.call_details.models import Chunk, Claim, FileVersion, Plan
from include.clients.dynamodb import ItemTable
from include.clients.s3 import json_bytes, put_json
from lambdas.common.aws import timestamp
from lambdas.events_api.models import Event, Status, random_id
from lambdas.events_api.store import item_of
from local.stack.description import Stack

_MOST = 200
_AIM = 1.5
_AIM_SECONDS, _AIM_MB = 0.2, 20
_CLIENT, _OWNER = 1003, "owner 0001"
_FILES_UNDER_WAY = 8
_LETTERS = 30


def measure_operations(bench: Bench, *, operations: Sequence[int], repeat: int) -> Part:
    """Each view's first answer, in turns with its calls alone; the server's start, in turns with one without plugin."""
    clients, files, owners = operations
    stack, now = bench.stack, datetime.now(UTC)
    day = now.date() - timedelta(days=1)
    _fill(stack, now, clients=clients, files=files, owners=owners)
    paths = {
        "Evidence: search": "/evidence/clients?q=10",
        "Evidence: a client's year": f"/evidence/clients/{_CLIENT}",
        "Evidence: an answer": f"/evidence/clients/{_CLIENT}/days/{day}",
        "Days: calendar": "/days",
        "Days: a day": f"/days/{day}",
        "Files": f"/files/waiting /files/under-way /files/done?day={now.date()} /files/dead-letters",
        "Orders": f"/orders?day={day}",
        "Events: owners": "/events/owners",
        "Events: an owner": f"/events/owner?owner={_OWNER.replace(' ', '%20')}",
        "Tonight": "/tonight",
    }
    measured = _run(stack, "views", str(2 * repeat + 1), *paths.values())
    starts: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
    with tempfile.TemporaryDirectory() as empty:
        for _ in range(repeat):
            starts["with"].append(_run(stack, "start"))
            starts["without"].append(_run(stack, "start", AIRFLOW__CORE__PLUGINS_FOLDER=empty))
    rows = [_row(what, measured[path]) for what, path in paths.items()]
    for what, name, unit, aim in (
        ("API server: CPU until its application is made", "cpu", "s", _AIM_SECONDS),
        ("API server: memory then", "rss", "MB", _AIM_MB),
    ):
        ours, without = ([run[name] for run in starts[way]] for way in ("with", "without"))
        more = statistics.median(ours) - statistics.median(without)
        digits = 2 if unit == "s" else 0
        texts = [median_and_range(values, unit, digits=digits) for values in (ours, without)]
        met = more <= aim
        rows.append(Comparison(what, texts[0], texts[1], f"{more:+.{digits}f} {unit}", f"at most {aim:+g} {unit}", met))
    return Part(
        "operations",
        f"The first answers of each view of the operations page, with nothing remembered: {clients:,} clients and 365 "
        f"days (as far as an answer reads them), {owners * 100:,} events of {owners:,} owners, {files:,} files of the "
        "day, 288 auctions. Baseline: the same AWS calls, as many at once, with the same clients of boto3 and without "
        "the page; in turns, in one process, through the page's routes and guards, without the network and an HTTP "
        "client. Behind both is the emulator. Objects: those that were read or looked at, and items of tables and "
        "queues; counting an index returns none. Server: a process that makes Airflow's application, beside one with "
        "an empty plugins folder, in turns.",
        rows,
        {"views": measured, "starts": starts},
    )


def _row(what: str, found: dict[str, Any]) -> Comparison:
    if found["strips"]:
        raise BenchmarkError(f"{what}: {'; '.join(found['strips'])}")
    ratio = statistics.median(found["page"]) / statistics.median(found["bare"])
    few = max(found["calls"], found["objects"]) <= _MOST
    return Comparison(
        f"{what} ({found['calls']} calls, {found['objects']} objects{', the rest left out' * bool(found['left_out'])})",
        median_and_range(found["page"], "ms"),
        median_and_range(found["bare"], "ms"),
        f"{ratio:.2f} times",
        f"at most {_AIM:g} times, {_MOST} calls, {_MOST} objects",
        ratio <= _AIM and few,
    )


def _run(stack: Stack, *arguments: str, **options: str) -> Any:
    environment = stack.airflow_environment() | options
    return json.loads(run_python("-m", "benchmarks.operations_views", *arguments, environment=environment))


def _fill(stack: Stack, now: datetime, *, clients: int, files: int, owners: int) -> None:
    s3 = stack.aws("s3")
    days = [now.date() - timedelta(days=back) for back in range(1, 366)]
    with ThreadPoolExecutor(16) as threads:

        def at_once(puts: Iterable[dict[str, Any]]) -> None:
            for _ in threads.map(lambda put: s3.put_object(**put), puts):
                pass

        at_once(_archive(stack.archive_bucket, days, clients))
        for number in range(288):
            _auction(s3, stack.order_results_bucket, days[0], number)
        at_once(_files(stack.ingest_bucket, now, files))
        _under_way(stack, s3)
        table = stack.aws("dynamodb")
        for _ in threads.map(lambda some: _write(table, some), batched(_items(stack, now, owners), 25)):
            pass


def _archive(bucket: str, days: list[date], clients: int) -> Iterator[dict[str, Any]]:
    """One client's answers, and the manifests of all days; all clients are in the newest one."""
    ids = [1000 + number for number in range(clients)]
    for day in days:
        body = json.dumps([{"trigger": 1, "day": str(day)}]).encode()
        yield {"Bucket": bucket, "Key": archive_key(_CLIENT, day), "Body": body}
        counts = {"total_clients": clients, "successful_archives": clients, "failed_archives": 0, "unchanged": 0}
        lines = [
            {"client_id": client, "client_name": f"Client {client}", "key": archive_key(client, day), "bytes": 36,
             "sha256": 64 * "0", "version_id": "v", "outcome": "archived", "run_id": "run"}
            for client in (ids if day == days[0] else ())
        ]  # fmt: skip
        document = {"trigger_date": str(day), "run_id": "run", **counts, "errors": [], "clients": lines, "runs": []}
        metadata = {name: str(value) for name, value in counts.items()}
        yield {
            "Bucket": bucket, "Key": manifest_key(day), "Body": json_bytes(document), "Metadata": metadata,
        }  # fmt: skip


def _auction(s3: Any, bucket: str, day: date, number: int) -> None:
    run = f"scheduled__{day}T{number // 12:02d}:{number % 12 * 5:02d}:00+00:00"
    outcomes = [
        OrderOutcome(index, order_id(run, index), Result.REJECTED if index == 9 else Result.ACCEPTED)
        for index in range(10)
    ]
    Summary(run, day, tuple(outcomes)).save(s3, bucket)


def _files(bucket: str, now: datetime, files: int) -> Iterator[dict[str, Any]]:
    for number in range(files):
        file = FileVersion(bucket, f"incoming/calls {number:05d}.jsonl", f"{number:032x}")
        receipt = {"outcome": "processed", "key": file.key, "records_read": 1, "records_accepted": 1, "run_id": "run"}
        yield {"Bucket": bucket, "Key": receipt_key(file), "Body": json.dumps(receipt).encode()}
        yield {"Bucket": bucket, "Key": processed_key(file, now.date()), "Body": b'{"call": 1}\n'}
        if number % 10 == 0:
            yield {"Bucket": bucket, "Key": f"incoming/waiting {number:05d}.jsonl", "Body": b'{"call": 1}\n'}


def _under_way(stack: Stack, s3: Any) -> None:
    bucket = stack.ingest_bucket
    letters = DeadLetters(s3, stack.aws("sqs"), bucket, stack.call_details_dlq_url)
    claims = Claims(ItemTable(stack.aws("dynamodb"), stack.ingest_ledger_table))
    for number in range(_FILES_UNDER_WAY):
        file = FileVersion(bucket, f"incoming/under way {number}.jsonl", f"{number:032x}")
        claim = claims.claim(file, run_id(file), begun=True)
        if not isinstance(claim, Claim):
            raise BenchmarkError(f"{file.key} is claimed already")
        chunks = tuple(Chunk(each, 0, 1, 1, 5000, each * 10, 10) for each in range(4))
        plan = Plan(file, processing_key(file), file.etag, 9, False, 500, "t", 20_000, 9, 0, chunks)
        put_json(s3, bucket, plan_key(file, 1), plan.to_document())
        claims.note_plan(claim, plan_key(file, 1))
    for number in range(_LETTERS):
        first = 500 * number + 1
        letter = DeadLetter(file, number, first, first + 499, f"{number:064x}", 3, 422, "422", "2026-03-08T00:00:00Z")
        letters.save(letter, b'{"records": []}')


def _items(stack: Stack, now: datetime, owners: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Owners with webhooks, each with 100 events of which 10 wait and 10 have failed."""
    for owner in (f"owner {number:04d}" for number in range(owners)):
        hook = {"owner": owner, "url": "https://owner.example/hooks", "secret": "whsec_c2FtcGxl"}
        yield stack.subscriptions_table, {name: {"S": text} for name, text in hook.items()} | {"active": {"BOOL": True}}
        for number in range(100):
            at = timestamp(now - timedelta(minutes=100 - number))
            status = Status.PENDING if number >= 90 else Status.FAILED if number < 10 else Status.DELIVERED
            due = timestamp(now + timedelta(hours=1)) if status is Status.PENDING else None
            yield (
                stack.events_table,
                dict(item_of(Event(random_id(), owner, "order.placed", '{"n":1}', None, None, status, at, 1, due))),
            )


def _write(dynamodb: Any, some: Iterable[tuple[str, dict[str, Any]]]) -> None:
    request: dict[str, list[dict[str, Any]]] = {}
    for table, item in some:
        request.setdefault(table, []).append({"PutRequest": {"Item": item}})
    if dynamodb.batch_write_item(RequestItems=request).get("UnprocessedItems"):
        raise BenchmarkError("the emulator did not take all events")
