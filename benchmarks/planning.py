"""Planning a file of call details beside counting its lines, and making its batches beside doing so with json."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.results import Comparison, Part, median_and_range, medians_in_times, run_python
from include.call_details.models import FileVersion, Plan, Terms
from include.call_details.planner import make_plan
from include.call_details.records import Batch, read_batches, timestamp
from include.call_details.storage import StoredFile
from local.sample.call_details import write_call_details

_BLOCK = 1024 * 1024
_PER_BATCH = 500
_RECORDS = 1_000_000
_PLAN_AIM = 1.8


def measure_planning(_bench: object, *, repeat: int) -> Part:
    """Each way in a process of its own, in turns; CPU time, which other work on the machine hardly changes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.txt"
        write_call_details(path, records=_RECORDS, broken_share=0.001)
        megabytes = path.stat().st_size / 1e6
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in _WAYS}
        for _ in range(repeat):
            for name, values in measured.items():
                values.append(_measured(name, path))
    seconds = {name: [cpu for cpu, _ in values] for name, values in measured.items()}
    memory = {name: max(peak for _, peak in values) for name, values in measured.items()}
    faster = statistics.median(seconds["json"]) / statistics.median(seconds["batches"])
    return Part(
        "planning",
        f"A file of {_RECORDS:,} records ({megabytes:.0f} MB, one line in a thousand broken) on the local disk, read "
        "in blocks of 1 MiB; CPU seconds. Baselines: `for line in file: count += 1`; and each line parsed by json, "
        f"each batch of {_PER_BATCH} written by json. Our batches are put together from the lines as they are.",
        [
            medians_in_times(
                "plan: count records, find chunks, count invalid bytes",
                seconds["plan"],
                seconds["count"],
                "s",
                digits=2,
                aim=_PLAN_AIM,
            ),
            Comparison(
                "batches: the body of every request",
                median_and_range(seconds["batches"], "s", digits=2),
                median_and_range(seconds["json"], "s", digits=2),
                f"{faster:.1f} times faster",
            ),
            Comparison(
                "peak memory of the process that makes the batches",
                f"{memory['batches']:.0f} MB",
                f"{memory['json']:.0f} MB",
                f"{memory['batches'] - memory['json']:+.0f} MB",
            ),
        ],
        {"cpu_seconds": seconds, "peak_mb": memory},
    )


def _measured(way: str, path: Path) -> tuple[float, float]:
    """CPU seconds and peak memory in MB."""
    cpu, peak = run_python("-m", "benchmarks.planning", way, path).split()
    return float(cpu), float(peak)


def _blocks(path: Path, start: int, stop: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while start < stop and (block := file.read(min(_BLOCK, stop - start))):
            start += len(block)
            yield block


def plan_of(path: Path) -> Plan:
    """The plan of a file on the local disk."""
    size = path.stat().st_size
    return make_plan(
        FileVersion("bucket", "incoming/calls.txt", "etag"),
        StoredFile("processing/calls.txt", "etag", size),
        Terms(_PER_BATCH, timestamp(datetime.now(UTC))),
        _blocks(path, 0, size),
    )


def batches_of(path: Path, plan: Plan) -> Iterator[Batch]:
    """The batches of a file on the local disk."""
    for chunk in plan.chunks:
        yield from read_batches(_blocks(path, chunk.start, chunk.stop), plan, chunk)


def _batches(path: Path) -> Callable[[], object]:
    plan = plan_of(path)
    return lambda: sum(len(batch.body) for batch in batches_of(path, plan))


def _count(path: Path) -> None:
    count = 0
    with path.open("rb") as file:
        for _line in file:
            count += 1


def _json(path: Path) -> None:
    records: list[object] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if text := line.strip():
                try:
                    records.append(json.loads(text))
                except ValueError:
                    records.append({"data": text, "lineNumber": number})
            if len(records) == _PER_BATCH:
                json.dumps({"records": records, "batchSize": len(records)})
                records = []
    json.dumps({"records": records, "batchSize": len(records)})


_WAYS: dict[str, Callable[[Path], Callable[[], object]]] = {
    "count": lambda path: lambda: _count(path),
    "plan": lambda path: lambda: plan_of(path),
    "json": lambda path: lambda: _json(path),
    "batches": _batches,
}


def _main(way: str, path: str) -> None:
    run = _WAYS[way](Path(path))
    begun = time.process_time()
    run()
    print(time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    _main(*sys.argv[1:])
