"""CPU time by service of the stack, exact to the clock tick (10 ms), and what the rest of the machine used."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import psutil

from local.stack.description import Stack

TASKS = "tasks"
"""Airflow's workers and the task processes they fork; the scheduler is their parent and is counted without them."""

_WORKER_TITLE = "airflow worker -- LocalExecutor"


@dataclass(frozen=True)
class CpuUse:
    """CPU seconds between two moments.

    Args:
        by_service: of the stack's services, and of :data:`TASKS`.
        others: of all processes that are not the stack's: shows how quiet the machine was.
        wall: seconds between the two moments.
    """

    by_service: Mapping[str, float]
    others: float
    wall: float

    @property
    def stack(self) -> float:
        """Of the whole stack."""
        return sum(self.by_service.values())

    @property
    def busy_elsewhere(self) -> float:
        """Share of the machine, 0 to 1, that other processes used."""
        return self.others / (self.wall * (os.cpu_count() or 1))

    def to_document(self) -> dict[str, Any]:
        """A JSON document."""
        return {**asdict(self), "busy_elsewhere": self.busy_elsewhere}


class CpuMeter:
    """Use as ``with CpuMeter(stack) as meter``; afterwards ``meter.use`` is there."""

    use: CpuUse

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def __enter__(self) -> Self:
        self._before, self._machine = _services(self._stack), _machine()
        return self

    def __exit__(self, *_: object) -> None:
        after, machine = _services(self._stack), _machine()
        used = {name: after[name] - self._before.get(name, 0.0) for name in after}
        busy, all_time = (now - then for now, then in zip(machine, self._machine, strict=True))
        self.use = CpuUse(used, max(0.0, busy - sum(used.values())), all_time / (os.cpu_count() or 1))


def _services(stack: Stack) -> dict[str, float]:
    """CPU seconds so far by service.

    A process counts with the children that it has waited for, so that tasks which came and went are in.
    """
    found: dict[str, float] = defaultdict(float)
    for service, guard in stack.pids.items():
        root = psutil.Process(guard)
        for process in [root, *root.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            name = TASKS if _title(process).startswith("airflow worker --") else service
            found[name] += times.user + times.system + times.children_user + times.children_system
    return found


def worker_pids(stack: Stack) -> list[int]:
    """Process ids of Airflow's workers, whose children are the tasks."""
    tree = psutil.Process(stack.pids["scheduler"]).children(recursive=True)
    return [process.pid for process in tree if _title(process).startswith(_WORKER_TITLE)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.ZombieProcess:
        # The only children of the stack that come and go are tasks; this one waits to be collected by its worker.
        return "airflow worker -- ended"
    except psutil.NoSuchProcess:
        return ""


def _machine() -> tuple[float, float]:
    """Busy and total CPU seconds of the machine since it started."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    return sum(times[:8]) - idle, sum(times[:8])
