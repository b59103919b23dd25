"""A file of call details through the whole pipeline, beside a bare poster and the original one-at-a-time loop."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.bench import INGEST_DAG, LATENCY_MS, Bench, Run
from benchmarks.call_details import CallDetailsStub, Posting, post_bare
from benchmarks.memory import PeakMemory, peaks_of
from benchmarks.original_ingest import post_one_at_a_time
from benchmarks.planning import batches_of, plan_of
from benchmarks.results import Comparison, Part, in_times, median_and_range, medians_in_percent
from benchmarks.timeline import where_the_time_goes
from local.partners.call_details import BATCH_PATH
from local.sample.call_details import write_call_details
from local.stack.description import Stack

_TASKS = ("plan", "post_chunk", "reconcile")
_CONNECTIONS = 50
_TIMES_LARGER = 10
_LOOP_RECORDS = 100_000

_POSTING_AIM, _LARGE_AIM = 0.8, 0.72
_RUN_AIM, _RUN_AIM_SECONDS = 1.5, 15.0
_LOOP_AIM = 10.0
_MEMORY_AIM = 1.1


@dataclass(frozen=True)
class _Ingest:
    """One file through the pipeline.

    Args:
        run: of the DAG.
        posting: as the stub saw it.
        peak_mb: memory of the largest task, by task id; empty if nobody looked, which takes CPU.
    """

    run: Run
    posting: Posting
    peak_mb: dict[str, float] = field(default_factory=dict)


def measure_ingest(bench: Bench, *, records: int, repeat: int) -> Part:
    """Ingest a file of ``records`` as often as told, in turns with the bare poster, and one ten times as large."""
    stub = CallDetailsStub(bench.stack)
    bench.switch_on(INGEST_DAG)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.txt"
        write_call_details(path, records=_LOOP_RECORDS)
        loop = post_one_at_a_time(bench.stack, stub, _drop(bench.stack, path, "loop")) * records / _LOOP_RECORDS
        write_call_details(path, records=records)
        size = path.stat().st_size
        ready = list(batches_of(path, plan_of(path)))
        # Not timed: the first run pays what only a first run does.
        first = _ingest_watched(bench, stub, _drop(bench.stack, path, "first"), records)
        bare, runs = [], []
        for number in range(repeat):
            bare.append(post_bare(stub, ready, connections=_CONNECTIONS))
            runs.append(_ingest(bench, stub, _drop(bench.stack, path, f"run-{number}"), records))
        # Once for the time and once for the memory: to look at it takes CPU.
        large = replace(
            _ingest(bench, stub, _drop(bench.stack, path, "large", times=_TIMES_LARGER), records * _TIMES_LARGER),
            peak_mb=_ingest_watched(
                bench, stub, _drop(bench.stack, path, "watched", times=_TIMES_LARGER), records * _TIMES_LARGER
            ).peak_mb,
        )
    return _part(runs, bare, loop, first, large, records=records, size=size)


def _ingest(bench: Bench, stub: CallDetailsStub, key: str, records: int) -> _Ingest:
    stub.forget()
    run = bench.run(INGEST_DAG, {"key": key}, api=BATCH_PATH)
    return _Ingest(run, stub.seen(records))


def _ingest_watched(bench: Bench, stub: CallDetailsStub, key: str, records: int) -> _Ingest:
    with PeakMemory(bench.stack) as memory:
        done = _ingest(bench, stub, key, records)
    return replace(done, peak_mb={task: max(peaks_of(done.run, task, memory.peaks)) for task in _TASKS})


def _drop(stack: Stack, path: Path, name: str, *, times: int = 1) -> str:
    """Put a file under ``incoming/``, or so many copies of it one after the other as one file; returns its key."""
    s3, key = stack.aws("s3"), f"incoming/benchmark-{name}.txt"
    s3.upload_file(str(path), stack.ingest_bucket, key)
    if times > 1:
        whole = {"Bucket": stack.ingest_bucket, "Key": key}
        upload = {**whole, "UploadId": s3.create_multipart_upload(**whole)["UploadId"]}
        parts = [
            {
                "PartNumber": number,
                "ETag": s3.upload_part_copy(**upload, PartNumber=number, CopySource=whole)["CopyPartResult"]["ETag"],
            }
            for number in range(1, times + 1)
        ]
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    return key


def _part(
    runs: Sequence[_Ingest],
    bare: Sequence[Posting],
    loop: float,
    first: _Ingest,
    large: _Ingest,
    *,
    records: int,
    size: int,
) -> Part:
    median = sorted((each.run for each in runs), key=lambda run: run.wall)[len(runs) // 2]
    walls = [each.run.wall for each in runs]
    wall, limit = statistics.median(walls), statistics.median(posting.seconds for posting in bare)
    allowed = _RUN_AIM * limit + _RUN_AIM_SECONDS
    rates, bare_rates = [each.posting.rate for each in runs], [posting.rate for posting in bare]
    return Part(
        "ingest",
        f"A file of {records:,} records ({size / 1e6:.0f} MB of JSON lines) through `{INGEST_DAG}`, settings as "
        f"shipped, warm stack; the API's stub takes {LATENCY_MS:.0f} ms for an answer. Posting is timed at the stub, "
        "on both sides from the beginning of the first call to the end of the last one: what starting tasks one after "
        "the other costs is in it. The bare poster (aiohttp, no pipeline around it) has the "
        f"same bodies ready in memory and {_CONNECTIONS} connections; with this latency nobody can post more than "
        f"{_CONNECTIONS / LATENCY_MS * 1e3 * 500:,.0f} records a second. In turns; median of {len(runs)} (range). "
        "The loop of the original Lambda (the whole file read, then one batch posted after another) was measured with "
        f"{_LOOP_RECORDS:,} records and is taken to be linear. Memory: VmHWM, see task_memory; the large file is the "
        f"same one {_TIMES_LARGER} times, posted once for its time and once for its memory.",
        [
            medians_in_percent(
                "posting alone, beside the bare poster", rates, bare_rates, "records/s", aim=_POSTING_AIM
            ),
            Comparison(
                "whole Airflow run, beside the bare poster",
                median_and_range(walls, "s"),
                median_and_range([posting.seconds for posting in bare], "s"),
                f"{wall - limit:+.1f} s",
                f"at most {_RUN_AIM:g} times and {_RUN_AIM_SECONDS:.0f} s more, {allowed:.1f} s",
                wall <= allowed,
            ),
            Comparison(
                "whole Airflow run, beside the original loop",
                median_and_range(walls, "s"),
                f"{loop:,.0f} s (extrapolated)",
                f"{loop / wall:.1f} times faster",
                f"at least {_LOOP_AIM:g} times",
                loop / wall >= _LOOP_AIM,
            ),
            medians_in_percent(
                f"{_TIMES_LARGER} times as many records: posting alone, beside the bare poster",
                [large.posting.rate],
                bare_rates,
                "records/s",
                aim=_LARGE_AIM,
            ),
            *(_memory_row(task, first, large) for task in ("plan", "post_chunk")),
        ],
        {
            "first": _raw(first),
            "runs": [_raw(each) for each in runs],
            "large": _raw(large),
            "bare": [asdict(posting) for posting in bare],
            "loop_seconds": loop,
        },
        [
            where_the_time_goes(f"{records:,} records, the median run", median, _TASKS, calls="calls of the API"),
            where_the_time_goes(f"{records * _TIMES_LARGER:,} records", large.run, _TASKS, calls="calls of the API"),
        ],
    )


def _memory_row(task: str, first: _Ingest, large: _Ingest) -> Comparison:
    ours, baseline = large.peak_mb[task], first.peak_mb[task]
    what = f"{_TIMES_LARGER} times as many records: peak memory of {task}, beside that with one time"
    return in_times(what, f"{ours:.0f} MB", f"{baseline:.0f} MB", ours / baseline, aim=_MEMORY_AIM)


def _raw(each: _Ingest) -> dict[str, Any]:
    return {**each.run.to_document(_TASKS), "posting": asdict(each.posting), "peak_mb": each.peak_mb}
