"""Verifying archived answers beside only reading and hashing them, and what the ledger costs a run."""

from __future__ import annotations

import bisect
import hashlib
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import boto3
from aiohttp import web
from botocore.config import Config

from benchmarks.bench import Bench
from benchmarks.results import Comparison, Part, median_and_range, medians_in_times, run_python
from include.archive.keys import EVIDENCE, archive_key
from include.archive.ledger import Ledger
from include.archive.manifests import record_run
from include.archive.models import Client, ClientOutcome, Manifest, Plan, Result
from local.processes.layout import LOOPBACK, PROJECT_ROOT, REGION
from ops.evidence import CONNECTIONS, Scope, Verification

_BUCKET = "evidence-benchmark"
_FIRST = date(2024, 1, 1)
_AIM = 1.3
_OF_A_RUN = 1_000
_MANY = 20_000
"""Beyond so many answers each way is measured once: it takes minutes."""
_VERSION = "1"
_NOW = "Mon, 01 Jan 2024 00:00:00 GMT"
_ANSWER = json.dumps([{"trigger": number, "price": 1204.5, "note": "x" * 80} for number in range(10)])


def measure_evidence(bench: Bench, *, evidence: Sequence[int], latency_ms: float, repeat: int) -> Part:
    """Each way in a process of its own, in turns, on a server of their own; and the ledger's writes of one run."""
    days, clients = evidence
    if days * clients > _MANY:
        repeat = 1
    measured = measured_ways(days=days, clients=clients, repeat=repeat)
    peak = {way: max(run["peak"] for run in runs) for way, runs in measured.items()}

    bench.set_latency(latency_ms)
    bench.set_clients(_OF_A_RUN)
    run = bench.archive(_OF_A_RUN, bench.fresh_day())
    documents = _documents(bench.stack.aws_endpoint_url)
    with_ledger, without = ([values[at] for values in documents] for at in (0, 1))
    more = statistics.median(with_ledger) - statistics.median(without)

    def row(what: str, unit: str) -> Comparison:
        ours, theirs = ([run[unit] for run in measured[way]] for way in ("verify", "read"))
        return medians_in_times(what, ours, theirs, "s", aim=_AIM)

    return Part(
        "evidence",
        f"`ops evidence verify` of {days * clients:,} archived answers of {len(_ANSWER):,} bytes ({days} days, "
        f"{clients:,} clients, a run and an entry a day), beside a bare reader: {CONNECTIONS} threads that know all "
        "keys, get each object with boto3 and compute its sha256. Each in a process of its own, in turns. The server "
        "is in memory and another process, whose CPU is not counted: an emulator would take longer than the readers. "
        f"Documents, on the emulator: plan and outcomes of {_OF_A_RUN:,} clients are read; manifest, entry and day "
        "are written, beside the one manifest of a run without a ledger.",
        [
            row("time to verify all", "wall"),
            row("CPU of the process", "cpu"),
            Comparison(
                f"peak memory, all beside one day ({clients:,} answers)",
                f"{peak['verify']:.0f} MB",
                f"{peak['one day']:.0f} MB",
                f"{peak['verify'] - peak['one day']:+.0f} MB",
            ),
            Comparison(
                f"documents of a run of {_OF_A_RUN:,} clients, which takes {run.wall:.1f} s",
                median_and_range([1000 * value for value in with_ledger], "ms"),
                median_and_range([1000 * value for value in without], "ms"),
                f"{1000 * more:+.0f} ms, {more / run.wall:.1%} of the run",
            ),
        ],
        {"runs": measured, "documents": documents, "run_seconds": run.wall},
    )


def client_of(endpoint: str) -> Any:
    """A client as the command has it."""
    config = Config(max_pool_connections=CONNECTIONS, retries={"mode": "standard", "total_max_attempts": 3})
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    return session.client("s3", endpoint_url=endpoint, config=config)


def measured_ways(*, days: int, clients: int, repeat: int) -> dict[str, list[dict[str, float]]]:
    """Seconds, CPU seconds and peak memory in MB of each way, as often as asked."""
    measured: dict[str, list[dict[str, float]]] = {"read": [], "verify": [], "one day": []}
    with _server(days, clients) as endpoint:
        for number in range(days):
            day = _FIRST + timedelta(days=number)
            outcomes = tuple(_outcome(client, day) for client in range(1, clients + 1))
            record_run(client_of(endpoint), _BUCKET, _document(day, "run", outcomes))
        for _ in range(repeat):
            for way, values in measured.items():
                values.append(_measured(way, endpoint, days * clients))
    return measured


def _body(client: int, day: date) -> bytes:
    return f'{_ANSWER[:-1]}, {client}, "{day}"]'.encode()


def _outcome(client: int, day: date) -> ClientOutcome:
    body = _body(client, day)
    digest = hashlib.sha256(body).hexdigest()
    return ClientOutcome(client, Result.ARCHIVED, archive_key(client, day), digest, len(body), _VERSION)


@contextmanager
def _server(days: int, clients: int) -> Iterator[str]:
    """A process that has the answers; its address."""
    command = [sys.executable, "-m", "benchmarks.evidence", "serve", str(days), str(clients)]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


class Bucket:
    """S3 with what is used here, and one version a key.

    Args:
        bodies: by key.
    """

    def __init__(self, bodies: dict[str, bytes]) -> None:
        self._bodies = bodies
        self._keys = sorted(bodies)

    async def answer(self, request: web.Request) -> web.Response:
        """Get, put or list."""
        key = request.path.removeprefix(f"/{_BUCKET}").removeprefix("/")
        if not key:
            return self._list(request.query)
        if request.method == "PUT":
            if ("If-None-Match" in request.headers) == (key in self._bodies):
                return web.Response(status=412)
            self._bodies[key] = await request.read()
            bisect.insort(self._keys, key)
        elif key not in self._bodies:
            return web.Response(status=404)
        body = self._bodies[key] if request.method == "GET" else b""
        return web.Response(body=body, headers={"x-amz-version-id": _VERSION, "ETag": '"1"', "Last-Modified": _NOW})

    def _list(self, query: Any) -> web.Response:
        after = max(query.get(name, "") for name in ("start-after", "continuation-token", "key-marker"))
        start = max(bisect.bisect_left(self._keys, query["prefix"]), bisect.bisect_right(self._keys, after))
        most = int(query.get("max-keys", 1000))
        found = [key for key in self._keys[start : start + most + 1] if key.startswith(query["prefix"])]
        tag = "Version" if "versions" in query else "Contents"
        items = "".join(
            f"<{tag}><Key>{escape(key)}</Key><VersionId>{_VERSION}</VersionId><IsLatest>true</IsLatest><ETag>1</ETag>"
            f"<LastModified>2024-01-01T00:00:00Z</LastModified><Size>{len(self._bodies[key])}</Size></{tag}>"
            for key in found[:most]
        )
        more = f"<IsTruncated>{str(len(found) > most).lower()}</IsTruncated>"
        if len(found) > most:
            last = escape(found[most - 1])
            more += f"<NextContinuationToken>{last}</NextContinuationToken><NextKeyMarker>{last}</NextKeyMarker>"
        return web.Response(text=f"<Result>{items}{more}</Result>", content_type="application/xml")


def _serve(days: int, clients: int) -> None:
    dates = [_FIRST + timedelta(days=number) for number in range(days)]
    held = Bucket({archive_key(each, day): _body(each, day) for day in dates for each in range(1, clients + 1)})
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{key:.*}", held.answer)
    listener = socket.create_server((LOOPBACK, 0))
    print(f"http://{LOOPBACK}:{listener.getsockname()[1]}", flush=True)
    web.run_app(app, sock=listener, print=None, access_log=None)


def _bucket(endpoint: str, name: str) -> Any:
    s3 = client_of(endpoint)
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return s3


def _document(day: date, run_id: str, outcomes: tuple[ClientOutcome, ...]) -> dict[str, Any]:
    clients = tuple(Client(outcome.client_id, f"Client {outcome.client_id}") for outcome in outcomes)
    return Manifest(Plan(f"{run_id} {day}", 0, day, False, 1, "", clients, ()), outcomes).to_document()


def _documents(endpoint: str) -> list[tuple[float, float]]:
    """Seconds that a run's end takes, with all that proves it, and with its manifest alone; for some days in turn."""
    bucket = f"{_BUCKET}-documents"
    s3 = _bucket(endpoint, bucket)

    def read() -> None:
        for name in ("plan", "outcomes"):
            s3.get_object(Bucket=bucket, Key=f"runs/{name}")["Body"].read()

    def bare(document: dict[str, Any]) -> None:
        read()
        body = json.dumps(document).encode()
        s3.put_object(Bucket=bucket, Key=f"bare/{document['trigger_date']}.json", Body=body)

    def proven(document: dict[str, Any]) -> None:
        with ThreadPoolExecutor(1) as threads:
            newest = threads.submit(Ledger(s3, bucket).newest)
            read()
            record_run(s3, bucket, document, newest=newest.result)

    found = []
    for number in range(15):
        day = _FIRST + timedelta(days=number)
        document = _document(day, "documents", tuple(_outcome(client, day) for client in range(_OF_A_RUN)))
        for name in ("plan", "outcomes"):
            s3.put_object(Bucket=bucket, Key=f"runs/{name}", Body=json.dumps(document).encode())
        found.append((_seconds(proven, document), _seconds(bare, document)))
    return found


def _seconds(work: Callable[[dict[str, Any]], None], document: dict[str, Any]) -> float:
    begun = time.perf_counter()
    work(document)
    return time.perf_counter() - begun


def _measured(way: str, endpoint: str, answers: int) -> dict[str, float]:
    """Seconds, CPU seconds and peak memory in MB of one way in a process of its own."""
    found: dict[str, float] = json.loads(run_python("-m", "benchmarks.evidence", way, endpoint, answers))
    return found


def _read(endpoint: str, answers: int) -> Callable[[], None]:
    s3 = client_of(endpoint)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=_BUCKET, Prefix=EVIDENCE)
    keys = [item["Key"] for page in pages for item in page["Contents"]]
    assert len(keys) == answers

    def digest(key: str) -> str:
        return hashlib.sha256(s3.get_object(Bucket=_BUCKET, Key=key)["Body"].read()).hexdigest()

    def run() -> None:
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            assert sum(len(each) == 64 for each in threads.map(digest, keys)) == answers

    return run


def _verify(endpoint: str, answers: int, *, last: date | None = None) -> Callable[[], None]:
    verification = Verification(client_of(endpoint), _BUCKET, Scope(last=last))

    def run() -> None:
        findings, read = verification.run()
        assert findings == []
        assert last is not None or read["answers"] == answers

    return run


_WAYS: dict[str, Callable[[str, int], Callable[[], None]]] = {
    "read": _read,
    "verify": _verify,
    "one day": lambda endpoint, answers: _verify(endpoint, answers, last=_FIRST),
}


def _main(way: str, endpoint: str, answers: str) -> None:
    run = _WAYS[way](endpoint, int(answers))
    begun, cpu = time.perf_counter(), time.process_time()
    run()
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": _peak_mb()}))


def _peak_mb() -> float:
    # Not what getrusage says: that begins with the size of the process that this one was forked from.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(*map(int, sys.argv[2:]))
    else:
        _main(*sys.argv[1:])
