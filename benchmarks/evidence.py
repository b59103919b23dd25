"""Verifying archived answers beside only reading and hashing them, and what the ledger costs a run."""

from __future__ import annotations

import asyncio
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import aiohttp
import boto3
from botocore.config import Config

from benchmarks.bench import Bench
from benchmarks.results import Comparison, Part, median_and_range
from include.archive.keys import EVIDENCE, archive_key
from include.archive.ledger import Ledger
from include.archive.manifests import Manifests
from include.archive.models import Client, ClientOutcome, Manifest, Plan, Result
from local.processes.layout import PROJECT_ROOT, REGION
from ops.evidence import CONNECTIONS, Scope, Verification

_BUCKET = "evidence-benchmark"
_FIRST = date(2024, 1, 1)
_AIM = 1.3
_OF_A_RUN = 1_000
_MANY = 20_000
"""Beyond so many answers each way is measured once: it takes minutes."""
_ANSWER = json.dumps([{"trigger": number, "price": 1204.5, "note": "x" * 80} for number in range(10)])
_ANYBODY = {"Authorization": f"AWS4-HMAC-SHA256 Credential=test/20240101/{REGION}/s3/aws4_request"}
"""For the emulator, which checks no signature: signing takes longer than everything else here."""


def measure_evidence(bench: Bench, *, days: int, clients: int, latency_ms: float, repeat: int) -> Part:
    """Each way in a process of its own, in turns, on a bucket of its own; and the ledger's writes of one run."""
    endpoint = bench.stack.aws_endpoint_url
    if days * clients > _MANY:
        repeat = 1
    archive(endpoint, days=days, clients=clients)
    measured: dict[str, list[dict[str, float]]] = {"read": [], "verify": [], "one day": []}
    for _ in range(repeat):
        for way, values in measured.items():
            values.append(_measured(way, endpoint, days * clients))
    ratio = {
        unit: statistics.median(run[unit] for run in measured["verify"])
        / statistics.median(run[unit] for run in measured["read"])
        for unit in ("wall", "cpu")
    }
    peak = {way: max(run["peak"] for run in runs) for way, runs in measured.items()}

    bench.set_latency(latency_ms)
    bench.set_clients(_OF_A_RUN)
    run = bench.archive(_OF_A_RUN, bench.fresh_day())
    papers = [_papers(endpoint, number) for number in range(5)]
    with_ledger, without = ([values[at] for values in papers] for at in (0, 1))
    more = statistics.median(with_ledger) - statistics.median(without)

    def row(what: str, unit: str) -> Comparison:
        ours, theirs = (median_and_range([run[unit] for run in measured[way]], "s") for way in ("verify", "read"))
        met = ratio[unit] <= _AIM
        return Comparison(what, ours, theirs, f"{ratio[unit]:.2f} times", f"at most {_AIM:g} times", met)

    return Part(
        "evidence",
        f"`ops evidence verify` of {days * clients:,} archived answers of {len(_ANSWER):,} bytes ({days} days, "
        f"{clients:,} clients, a run and an entry a day), beside a bare reader: {CONNECTIONS} threads that know all "
        "keys, get each object with boto3 and compute its sha256. Each in a process of its own, in turns; the "
        "emulator's CPU is not counted. Ledger: the manifest of the run, the entry and the merged day of "
        f"{_OF_A_RUN:,} clients, beside the one manifest that a run wrote before there was a ledger.",
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
                f"papers of a run of {_OF_A_RUN:,} clients, which takes {run.wall:.1f} s",
                median_and_range([1000 * value for value in with_ledger], "ms"),
                median_and_range([1000 * value for value in without], "ms"),
                f"{1000 * more:+.0f} ms, {more / run.wall:.1%} of the run",
            ),
        ],
        {"runs": measured, "papers": papers, "run_seconds": run.wall},
    )


def client_of(endpoint: str) -> Any:
    """A client as the command has it."""
    config = Config(max_pool_connections=CONNECTIONS, retries={"mode": "standard", "total_max_attempts": 3})
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    return session.client("s3", endpoint_url=endpoint, config=config)


def archive(endpoint: str, *, days: int, clients: int) -> None:
    """An archive with manifests and ledger: each day one run of all clients, who get the answer and their number."""
    s3 = _bucket(endpoint, _BUCKET)
    for day in (_FIRST + timedelta(days=number) for number in range(days)):
        document = _document(day, "run", asyncio.run(_put_all(endpoint, day, clients)))
        saved = Manifests(s3, _BUCKET).save_run(day, document["run_id"], document)
        Ledger(s3, _BUCKET).append(document["run_id"], day.isoformat(), saved)
        Manifests(s3, _BUCKET).merge_day(day, document, saved)


def _bucket(endpoint: str, name: str) -> Any:
    s3 = client_of(endpoint)
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return s3


def _document(day: date, run_id: str, outcomes: tuple[ClientOutcome, ...]) -> dict[str, Any]:
    clients = tuple(Client(outcome.client_id, f"Client {outcome.client_id}") for outcome in outcomes)
    return Manifest(Plan(f"{run_id} {day}", 0, day, False, 1, "", clients, ()), outcomes).to_document()


async def _put_all(endpoint: str, day: date, clients: int) -> tuple[ClientOutcome, ...]:
    numbers = iter(range(1, clients + 1))

    async def put(http: aiohttp.ClientSession) -> list[ClientOutcome]:
        made = []
        for number in numbers:
            key, body = archive_key(number, day), f"{_ANSWER[:-1]}, {number}]".encode()
            async with http.put(f"{endpoint}/{_BUCKET}/{key}", data=body, headers=_ANYBODY) as answer:
                answer.raise_for_status()
                version = answer.headers["x-amz-version-id"]
            digest = hashlib.sha256(body).hexdigest()
            made.append(ClientOutcome(number, Result.ARCHIVED, key, digest, len(body), version))
        return made

    async with aiohttp.ClientSession() as http:
        found = await asyncio.gather(*(put(http) for _ in range(CONNECTIONS)))
    return tuple(sorted((outcome for each in found for outcome in each), key=lambda outcome: outcome.client_id))


def _papers(endpoint: str, number: int) -> tuple[float, float]:
    """Seconds to write what proves a run, and to write its manifest alone; in a bucket without young entries."""
    day, bucket = _FIRST, f"{_BUCKET}-{number}"
    s3 = _bucket(endpoint, bucket)
    outcomes = tuple(
        ClientOutcome(client, Result.ARCHIVED, archive_key(client, day), "0" * 64, 100, "version")
        for client in range(_OF_A_RUN)
    )
    document, manifests = _document(day, "papers", outcomes), Manifests(s3, bucket)
    begun = time.perf_counter()
    saved = manifests.save_run(day, document["run_id"], document)
    Ledger(s3, bucket).append(document["run_id"], day.isoformat(), saved)
    manifests.merge_day(day, document, saved)
    then = time.perf_counter()
    s3.put_object(Bucket=bucket, Key=f"bare/{day}.json", Body=json.dumps(document).encode())
    return then - begun, time.perf_counter() - then


def _measured(way: str, endpoint: str, answers: int) -> dict[str, float]:
    """Seconds, CPU seconds and peak memory in MB of one way in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.evidence", way, endpoint, str(answers)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
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
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
