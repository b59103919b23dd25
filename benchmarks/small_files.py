"""Many small files that are dropped at once, beside a run of its own for each of them."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import INGEST_DAG, LATENCY_MS, Bench, BenchmarkError
from benchmarks.call_details import CallDetailsStub
from benchmarks.cpu import CpuMeter
from benchmarks.results import Comparison, Part, median_and_range
from local.clients import AirflowApi
from local.stack.description import Stack

_WATCH_DAG = "call_details_watch"
_RECORDS = 5
_THREADS = 16
_AIM = 15.0
_ALONE = 100
"""Files of the baseline: at about one a second, more would take all of the part's ten minutes."""
_PATIENCE_SECONDS = 540.0


@dataclass(frozen=True)
class _Drop:
    """Some files through the pipeline: seconds from the first upload to the last receipt, and the stack's CPU."""

    seconds: float
    runs: int
    cpu: dict[str, Any]


def measure_small_files(bench: Bench, *, files: Sequence[int], repeat: int) -> Part:
    """Drop so many files with the watcher on, the smallest number as often as told; then some with a run for each."""
    stub = CallDetailsStub(bench.stack)
    bench.switch_on(INGEST_DAG)
    bench.switch_on(_WATCH_DAG)
    # Not timed: the first run pays what only a first run does.
    _dropped(bench, stub, "first", 3)
    shared = {
        count: [
            _dropped(bench, stub, f"shared-{count}-{number}", count)
            for number in range(repeat if count == min(files) else 1)
        ]
        for count in sorted(files)
    }
    with AirflowApi(bench.stack) as airflow:
        airflow.unpause(_WATCH_DAG, paused=True)
    alone_files = min(_ALONE, *files)
    alone = _dropped(bench, stub, "alone", alone_files, start=lambda key: _start(bench.stack, key))
    alone_rate = alone_files / alone.seconds
    return Part(
        "small_files",
        f"Files of {_RECORDS} records, uploaded by {_THREADS} threads to `incoming/` while the watcher waits: "
        f"from the first upload to the last receipt. The API's stub takes {LATENCY_MS:.0f} ms for an answer. Baseline: "
        f"{alone_files} files with a run of their own each, started by hand through Airflow's API while the watcher is "
        "off, which is less work than a watcher that starts a run for each.",
        [_row(count, drops, alone_rate, alone.runs) for count, drops in shared.items()],
        {"shared": {count: [vars(each) for each in drops] for count, drops in shared.items()}, "alone": vars(alone)},
    )


def _row(files: int, drops: Sequence[_Drop], alone_rate: float, alone_runs: int) -> Comparison:
    rates = [files / each.seconds for each in drops]
    gain = statistics.median(rates) / alone_rate
    runs = median_and_range([each.runs for each in drops], "runs", digits=0)
    return Comparison(
        f"{files:,} small files, to the last receipt",
        f"{median_and_range(rates, 'files/s')} in {runs}",
        f"{alone_rate:.1f} files/s in {alone_runs} runs",
        f"{gain:.1f} times as many",
        f"at least {_AIM:.0f} times",
        gain >= _AIM,
    )


def _dropped(
    bench: Bench, stub: CallDetailsStub, name: str, files: int, *, start: Callable[[str], object] | None = None
) -> _Drop:
    """Drop files, start a run for each if the watcher is not to, and wait for all receipts."""
    stub.forget()
    s3, bucket = bench.stack.aws("s3"), bench.stack.ingest_bucket

    def drop(number: int) -> None:
        lines = (json.dumps({"drop": name, "file": number, "call": call}) for call in range(_RECORDS))
        key = f"incoming/{name}/{number:05d}.jsonl"
        s3.put_object(Bucket=bucket, Key=key, Body="".join(f"{line}\n" for line in lines).encode())
        if start is not None:
            start(key)

    before = _runs(bench.stack)
    with CpuMeter(bench.stack) as meter, ThreadPoolExecutor(_THREADS) as threads:
        begun = time.monotonic()
        list(threads.map(drop, range(files)))
        while len(list(_keys(s3, bucket, f"receipts/incoming/{name}/"))) < files:
            if time.monotonic() - begun > _PATIENCE_SECONDS:
                raise BenchmarkError(f"not every file of {files} has its receipt after {_PATIENCE_SECONDS:.0f} s")
            time.sleep(0.25)
        seconds = time.monotonic() - begun
    stub.seen(files * _RECORDS)
    return _Drop(seconds, _runs(bench.stack) - before, meter.use.to_document())


def _start(stack: Stack, key: str) -> None:
    with AirflowApi(stack) as airflow:
        airflow.trigger(INGEST_DAG, conf={"key": key})


def _runs(stack: Stack) -> int:
    with AirflowApi(stack) as airflow:
        found: int = airflow.request("GET", f"/dags/{INGEST_DAG}/dagRuns", params={"limit": 1})["total_entries"]
    return found


def _keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", ()):
            yield found["Key"]
