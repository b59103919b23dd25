"""Cost of one mapped client beside an empty mapped task."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import ARCHIVE_TASK, EMPTY_TASK, Bench, Run
from benchmarks.cpu import TASKS
from benchmarks.results import Comparison, Part, median_and_range

_FEW = 10
_AIMED_AT, _AIM = "CPU per task: its process and worker", 1.9


@dataclass(frozen=True)
class _Pair:
    """A run with few mapped tasks and one with more: their difference is what the tasks cost, and nothing else."""

    few: Run
    many: Run
    task_id: str
    more: int

    @property
    def wall(self) -> float:
        return 1000 * (self.many.wall - self.few.wall) / self.more

    @property
    def task_cpu(self) -> float:
        return 1000 * (self.many.cpu.by_service[TASKS] - self.few.cpu.by_service[TASKS]) / self.more

    @property
    def stack_cpu(self) -> float:
        return 1000 * (self.many.cpu.stack - self.few.cpu.stack) / self.more

    @property
    def duration(self) -> float:
        return 1000 * statistics.median(self.many.durations(self.task_id))

    def to_document(self) -> dict[str, Any]:
        runs = {"few": self.few, "many": self.many}
        return {
            "wall_ms": self.wall,
            "task_cpu_ms": self.task_cpu,
            "stack_cpu_ms": self.stack_cpu,
            "duration_ms": self.duration,
            **{name: {"wall": run.wall, "cpu": run.cpu.to_document()} for name, run in runs.items()},
        }


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
    kinds: dict[str, Callable[[_Pair], float]] = {
        "wall time per task (parallel, whole run)": lambda pair: pair.wall,
        "start to end of one task (median)": lambda pair: pair.duration,
        _AIMED_AT: lambda pair: pair.task_cpu,
        "CPU per task: the whole stack, emulator and stub as well": lambda pair: pair.stack_cpu,
    }
    rows = []
    for what, value in kinds.items():
        mine, theirs = [value(pair) for pair in ours], [value(pair) for pair in empty]
        ratio = statistics.median(mine) / statistics.median(theirs)
        aim = _AIM if what == _AIMED_AT else None
        rows.append(
            Comparison(
                what,
                median_and_range(mine, "ms", digits=0),
                median_and_range(theirs, "ms", digits=0),
                f"{ratio:.2f} times",
                f"at most {aim:g} times" if aim else "",
                ratio <= aim if aim else None,
            )
        )
    return Part(
        "mapped_client",
        f"One mapped client (token, GET, conditional put, outcome; API without latency) beside an empty mapped task. "
        f"Per task: a run of {_FEW + tasks} tasks less a run of {_FEW}, divided by {tasks}, so that what a run "
        f"costs once is not counted. Median of {repeat} such pairs (range).",
        rows,
        {"archive": [pair.to_document() for pair in ours], "nothing": [pair.to_document() for pair in empty]},
    )


def _pair(run: Callable[[int], Run], task_id: str, tasks: int) -> _Pair:
    return _Pair(run(_FEW), run(_FEW + tasks), task_id, tasks)
