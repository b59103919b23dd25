"""Clients archived by a whole Airflow run, beside the original one-at-a-time loop."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.bench import ARCHIVE_TASK, Bench, Run
from benchmarks.one_at_a_time import Loop, archive_one_at_a_time
from benchmarks.results import Comparison, Part, median_and_range
from benchmarks.timeline import where_the_time_goes

_AIMS = {1_000: 5.0, 10_000: 20.0}


def measure_throughput(
    bench: Bench, *, sizes: Sequence[int], loop_clients: int, latency_ms: float, repeat: int
) -> Part:
    """Seconds for each of ``sizes`` clients; the loop is run with ``loop_clients`` and taken to be linear."""
    bench.set_latency(latency_ms)
    loop = archive_one_at_a_time(bench, bench.set_clients(loop_clients), bench.fresh_day())
    rows, notes, raw_runs = [], [], {}
    for size in sizes:
        bench.set_clients(size)
        runs = [bench.archive(size, bench.fresh_day()) for _ in range(repeat)]
        walls = [run.wall for run in runs]
        baseline = loop.wall * size / loop.clients
        ratio, aim = baseline / statistics.median(walls), _AIMS.get(size)
        rows.append(
            Comparison(
                f"{size:,} clients",
                median_and_range(walls, "s"),
                f"{baseline:,.0f} s" + ("" if size == loop.clients else " (extrapolated)"),
                f"{ratio:.1f} times faster",
                f"at least {aim:g} times" if aim else "",
                ratio >= aim if aim else None,
            )
        )
        median = sorted(runs, key=lambda run: run.wall)[len(runs) // 2]
        steps = ("list_clients", ARCHIVE_TASK, "summarize")
        notes.append(where_the_time_goes(f"{size:,} clients, the median run", median, steps, calls="DEX calls"))
        raw_runs[str(size)] = [_raw(run) for run in runs]
    return Part(
        "archive_throughput",
        "From the trigger to the end of the Airflow run (settings as shipped, warm stack, a day with no archive yet), "
        f"the DEX API taking {latency_ms:.0f} ms for an answer. Median of {repeat} runs (range). Beside it the loop of "
        "the original Lambda (one token, then one client after another: GET, then put_object) on the same stack, "
        f"measured with {loop.clients:,} clients: {loop.wall:.0f} s, {1000 * loop.wall / loop.clients:.0f} ms each. "
        "Other sizes of the loop are extrapolated linearly. The loop mostly waits for the API, while the run is "
        "limited by the machine's CPU: on a busy or slow machine the ratio falls.",
        rows,
        {"loop": _raw_loop(loop), "runs": raw_runs},
        notes,
    )


def _raw(run: Run) -> dict[str, Any]:
    return {
        "wall": run.wall,
        "peak_calls": run.peak_calls,
        "cpu": run.cpu.to_document(),
        "spans": {name: run.span(name) for name in ("list_clients", ARCHIVE_TASK, "summarize")},
        "task_seconds": sorted(run.durations(ARCHIVE_TASK)),
    }


def _raw_loop(loop: Loop) -> dict[str, Any]:
    return {"clients": loop.clients, "wall": loop.wall, "cpu": loop.cpu.to_document()}
