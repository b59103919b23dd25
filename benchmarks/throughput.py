"""Clients archived by a whole Airflow run, beside the original one-at-a-time loop."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.archive_bare import CONNECTIONS, Bare, archive_bare
from benchmarks.bench import ARCHIVE_TASK, Bench, Run
from benchmarks.cpu import TASKS
from benchmarks.one_at_a_time import archive_one_at_a_time
from benchmarks.results import Comparison, Part, median_and_range, medians_in_times
from benchmarks.timeline import where_the_time_goes

_STEPS = ("list_clients", ARCHIVE_TASK, "summarize")
_AIMS = {1_000: 5.0, 10_000: 50.0}
_BARE_FROM, _BARE_CPU, _BARE_WALL = 10_000, 3.0, 2.5


def measure_throughput(bench: Bench, *, clients: Sequence[int], loop: int, latency_ms: float, repeat: int) -> Part:
    """Seconds for each number of ``clients``; the original loop is run with ``loop`` of them, taken to be linear."""
    bench.set_latency(latency_ms)
    original = archive_one_at_a_time(bench, bench.set_clients(loop), bench.fresh_day())
    rows, notes, raw_runs, raw_bare = [], [], {}, {}
    for size in clients:
        listed = bench.set_clients(size)
        runs, bare = [], []
        for _ in range(repeat):
            bare.append(archive_bare(bench, listed, bench.fresh_day()))
            runs.append(bench.archive(size, bench.fresh_day()))
        walls = [run.wall for run in runs]
        baseline = original.wall * size / loop
        ratio, aim = baseline / statistics.median(walls), _AIMS.get(size)
        rows.append(
            Comparison(
                f"{size:,} clients",
                median_and_range(walls, "s"),
                f"{baseline:,.0f} s" + ("" if size == loop else " (extrapolated)"),
                f"{ratio:.1f} times faster",
                f"at least {aim:g} times" if aim else "",
                ratio >= aim if aim else None,
            )
        )
        rows += _beside_bare(size, runs, bare)
        median = sorted(runs, key=lambda run: run.wall)[len(runs) // 2]
        notes.append(where_the_time_goes(f"{size:,} clients, the median run", median, _STEPS, calls="DEX calls"))
        raw_runs[str(size)] = [run.to_document(_STEPS) for run in runs]
        raw_bare[str(size)] = [{**vars(one), "cpu": one.cpu.to_document()} for one in bare]
    return Part(
        "archive_throughput",
        "From the trigger to the end of the Airflow run (settings as shipped, warm stack, a day with no archive yet), "
        f"the DEX API taking {latency_ms:.0f} ms for an answer. Median of {repeat} runs (range). Beside it the loop of "
        "the original Lambda (one token, then one client after another: GET, then put_object) on the same stack, "
        f"measured with {loop:,} clients: {original.wall:.0f} s, {1000 * original.wall / loop:.0f} ms each. "
        "Other sizes of the loop are extrapolated linearly. The loop mostly waits for the API, while the run is "
        "limited by the machine's CPU: on a busy or slow machine the ratio falls. And beside a bare client "
        f"(benchmarks/archive_bare.py: aiohttp, a GET and a signed conditional PUT each, {CONNECTIONS} connections), "
        "in turns on the same stack: the limit of this machine.",
        rows,
        {"loop": {**vars(original), "cpu": original.cpu.to_document()}, "runs": raw_runs, "bare": raw_bare},
        notes,
    )


def _beside_bare(size: int, runs: Sequence[Run], bare: Sequence[Bare]) -> list[Comparison]:
    kinds = (
        ("CPU of the tasks", [run.cpu.by_service[TASKS] for run in runs], [one.own_cpu for one in bare], _BARE_CPU),
        ("whole run", [run.wall for run in runs], [one.wall for one in bare], _BARE_WALL),
    )
    return [
        medians_in_times(
            f"{size:,} clients: {what}, beside the bare client",
            ours,
            theirs,
            "s",
            aim=most if size >= _BARE_FROM else None,
        )
        for what, ours, theirs, most in kinds
    ]
