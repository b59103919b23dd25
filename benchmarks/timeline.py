"""Where the time of a run with mapped tasks goes, as a sentence for the notes."""

from __future__ import annotations

import statistics

from benchmarks.bench import Run
from benchmarks.cpu import TASKS


def where_the_time_goes(what: str, run: Run, tasks: tuple[str, str, str], *, calls: str) -> str:
    """The steps of a run, how long they took, and who used the CPU meanwhile.

    Args:
        what: names the run.
        run: with three tasks one after the other.
        tasks: their ids; the second one is mapped.
        calls: names the calls that :attr:`Run.peak_calls` counts.
    """
    first, mapped, last = tasks
    first_start, first_end = run.span(first)
    map_start, map_end = run.span(mapped)
    last_start, last_end = run.span(last)
    durations = run.durations(mapped)
    steps = (
        ("trigger to first task", first_start),
        (first, first_end - first_start),
        ("scheduling", map_start - first_end),
        (f"{len(durations)} {mapped} tasks", map_end - map_start),
        ("scheduling", last_start - map_end),
        (last, last_end - last_start),
        ("end of run", run.wall - last_end),
    )
    cpu = sorted(run.cpu.by_service.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{'tasks (with their workers)' if name == TASKS else name} {used:.1f} s" for name, used in cpu)
    return (
        f"**{what} ({run.wall:.1f} s).** "
        + ", ".join(f"{name} {spent:.1f} s" for name, spent in steps)
        + f". One {mapped} task took {statistics.median(durations):.1f} s (median). At most {run.peak_calls} {calls} "
        f"at once. CPU seconds: {shown}; other processes of the machine {run.cpu.others:.1f} s "
        f"({run.cpu.busy_elsewhere:.0%} of it)."
    )
