"""Peak memory of an archive task beside that of an idle mapped task."""

from __future__ import annotations

import contextlib
import statistics
import threading
from pathlib import Path
from typing import Any, Self

from benchmarks.bench import ARCHIVE_TASK, EMPTY_TASK, Bench, Run
from benchmarks.cpu import worker_pids
from benchmarks.results import Comparison, Part
from local.stack.description import Stack

_EVERY_SECONDS = 0.02
_AIM_MB = 150.0
_IDLE_TASKS = 8
_CLIENTS = 1_000


def measure_memory(bench: Bench, *, latency_ms: float) -> Part:
    """The largest archive task (a full group of clients) against the median of idle mapped tasks, in MB."""
    bench.set_latency(latency_ms)
    bench.set_clients(_CLIENTS)
    with PeakMemory(bench.stack) as idle:
        empty = bench.nothing(_IDLE_TASKS, idle_seconds=1.0)
    with PeakMemory(bench.stack) as busy:
        archive = bench.archive(_CLIENTS, bench.fresh_day())
    baseline = sorted(peaks_of(empty, EMPTY_TASK, idle.peaks))
    peaks = sorted(peaks_of(archive, ARCHIVE_TASK, busy.peaks))
    above = peaks[-1] - statistics.median(baseline)
    size = _CLIENTS // len(archive.of(ARCHIVE_TASK))
    return Part(
        "task_memory",
        "Peak resident memory of one task process (VmHWM, which counts pages shared with its worker as well), sampled "
        f"every {1000 * _EVERY_SECONDS:.0f} ms. The archive tasks have {size} clients each, {latency_ms:.0f} ms API "
        "latency; the largest of them counts. The idle task is a mapped task that only waits a second.",
        [
            Comparison(
                f"task of {size} clients",
                f"{peaks[-1]:.0f} MB",
                f"{statistics.median(baseline):.0f} MB",
                f"{above:+.0f} MB",
                f"at most +{_AIM_MB:.0f} MB",
                above <= _AIM_MB,
            )
        ],
        {"idle_mb": baseline, "archive_mb": peaks},
    )


class PeakMemory:
    """Watches task processes; ``peaks`` has MB by task instance id. Use as a context manager."""

    def __init__(self, stack: Stack) -> None:
        self.peaks: dict[str, float] = {}
        self._workers = worker_pids(stack)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(_EVERY_SECONDS):
            for worker in self._workers:
                # A process that ends between two looks is no loss: its peak was seen in the look before.
                with contextlib.suppress(OSError):
                    for child in Path(f"/proc/{worker}/task/{worker}/children").read_text().split():
                        self._look(Path("/proc") / child)

    def _look(self, process: Path) -> None:
        title = process.joinpath("cmdline").read_text().strip("\0 ")
        instance = title.removeprefix("airflow worker -- ")
        status = process.joinpath("status").read_text()
        peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), None)
        if peak is not None:
            self.peaks[instance] = int(peak) / 1024


def peaks_of(run: Run, task_id: str, peaks: dict[str, float]) -> list[float]:
    """Peaks of the instances of one task, in MB."""
    instances: list[dict[str, Any]] = run.of(task_id)
    return [peaks[task["id"]] for task in instances if task["id"] in peaks]
