"""Cost of one mapped client beside an empty mapped task."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.bench import ARCHIVE_TASK, EMPTY_TASK, Bench, Run
from benchmarks.cpu import TASKS
from benchmarks.results import Part, medians_in_times

_FEW = 10
_KINDS = (
    ("wall time per task (parallel, whole run)", "wall_ms", None),
    ("start to end of one task (median)", "duration_ms", None),
    ("CPU per task: its process and worker", "task_cpu_ms", 1.9),
    ("CPU per task: the whole stack, emulator and stub as well", "stack_cpu_ms", None),
)
"""What is compared, and the most that is aimed at."""


def measure_mapped(bench: Bench, *, tasks: int, repeat: int) -> Part:
    """Marginal cost of a mapped task, of one client and of nothing, in turns so that the machine is the same."""
    bench.set_latency(0)

    def archive(number: int) -> Run:
        bench.set_clients(number)
        return bench.archive(number, bench.fresh_day())

    ours, empty = [], []
    for _ in range(repeat):
        empty.append(_pair(bench.nothing, EMPTY_TASK, tasks))
        ours.append(_pair(archive, ARCHIVE_TASK, tasks))
    rows = [
        medians_in_times(what, [pair[name] for pair in ours], [pair[name] for pair in empty], "ms", digits=0, aim=aim)
        for what, name, aim in _KINDS
    ]
    return Part(
        "mapped_client",
        f"One mapped client (token, GET, conditional put, outcome; API without latency) beside an empty mapped task. "
        f"Per task: a run of {_FEW + tasks} tasks less a run of {_FEW}, divided by {tasks}, so that what a run "
        f"costs once is not counted. Median of {repeat} such pairs (range).",
        rows,
        {"archive": ours, "nothing": empty},
    )


def _pair(run: Callable[[int], Run], task_id: str, tasks: int) -> dict[str, Any]:
    """What tasks cost, and nothing else: a run with few of them, and what one with more takes beyond it."""
    few, many = run(_FEW), run(_FEW + tasks)
    return {
        "wall_ms": 1000 * (many.wall - few.wall) / tasks,
        "task_cpu_ms": 1000 * (many.cpu.by_service[TASKS] - few.cpu.by_service[TASKS]) / tasks,
        "stack_cpu_ms": 1000 * (many.cpu.stack - few.cpu.stack) / tasks,
        "duration_ms": 1000 * statistics.median(many.durations(task_id)),
        "few": {"wall": few.wall, "cpu": few.cpu.to_document()},
        "many": {"wall": many.wall, "cpu": many.cpu.to_document()},
    }
