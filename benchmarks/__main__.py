"""Command line of the benchmarks: `python -m benchmarks`; `make bench` calls it without options."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path

import httpx
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.auction import measure_auction
from benchmarks.bench import BenchmarkError, bench
from benchmarks.delivery import measure_delivery
from benchmarks.evidence import measure_evidence
from benchmarks.ingest import measure_ingest
from benchmarks.mapped import measure_mapped
from benchmarks.memory import measure_memory
from benchmarks.operations import measure_operations
from benchmarks.orders_api import measure_orders_api
from benchmarks.parsing import measure_parsing
from benchmarks.planning import measure_planning
from benchmarks.report import RESULTS, part_table, write_results
from benchmarks.results import Part
from benchmarks.small_files import measure_small_files
from benchmarks.throughput import measure_throughput
from local.processes.layout import PROJECT_ROOT, PortError
from local.processes.supervisor import StackError
from local.stack.control import StartProgress

_PART_SECONDS = 600.0

_PARTS: dict[str, tuple[str, Callable[..., Part]]] = {
    "parse": ("dag_file_parse_ms", measure_parsing),
    "mapped": ("mapped_client", measure_mapped),
    "memory": ("task_memory", measure_memory),
    "auction": ("auction", measure_auction),
    "orders_api": ("orders_api", measure_orders_api),
    "planning": ("planning", measure_planning),
    "ingest": ("ingest", measure_ingest),
    "small_files": ("small_files", measure_small_files),
    "delivery": ("event_delivery", measure_delivery),
    "evidence": ("evidence", measure_evidence),
    "operations": ("operations", measure_operations),
    "throughput": ("archive_throughput", measure_throughput),
}
"""What each part is called in the results, and how it is measured: by the options that are its parameters."""

_NUMBERS: tuple[tuple[str, int | list[int], str | tuple[str, ...], str], ...] = (
    ("clients", [1_000, 10_000], "N", "throughput: numbers of clients"),
    ("loop", 1_000, "N", "throughput: clients that the one-at-a-time loop is run with"),
    ("orders", [10, 500], "N", "auction: numbers of orders"),
    ("records", 1_000_000, "N", "ingest: records of the file; another one has ten times as many"),
    ("files", [300, 5000], "N", "small_files: numbers of files that are dropped at once"),
    ("events", 10_000, "N", "delivery: pending events"),
    ("owners", 200, "N", "delivery: owners of these events"),
    ("posts", 20, "N", "delivery: events posted one by one to the idle stack"),
    ("evidence", [10, 10_000], ("DAYS", "CLIENTS"), "evidence: days and clients of the archive"),
    (
        "operations",
        [10_000, 5_000, 1_000],
        ("CLIENTS", "FILES", "OWNERS"),
        "operations: clients, files of the day, owners with 100 events each",
    ),
    ("tasks", 60, "N", "mapped: mapped tasks"),
    ("repeat", 3, "N", "runs of each kind"),
)
"""Options that are whole numbers: name, default, what stands for them, and help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; returns 0 when everything was measured, also where an aim is missed: nothing here is a test."""
    options = _parser().parse_args(argv)
    console = Console(highlight=False)
    if not (argv or sys.argv[1:]):
        return _each_on_its_own(console)
    try:
        with StartProgress(console) as progress, bench(options.state_dir, on_event=progress) as made:
            progress.close()
            for name in options.only:
                load = os.getloadavg()[0]
                console.print(f"\nmeasuring: {name} (load average {load:.1f})")
                measure = _PARTS[name][1]
                asked = signature(measure).parameters
                part = measure(made, **{option: value for option, value in vars(options).items() if option in asked})
                part.keep(load)
                if options.report:
                    write_results(part, [stem for stem, _ in _PARTS.values()])
                console.print(Markdown(part_table(part)))
    except (StackError, PortError, BenchmarkError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except httpx.TransportError as error:
        print(f"error: the stack does not answer ({error!r}): see the logs in {options.state_dir}", file=sys.stderr)
        return 1
    return 0


def _each_on_its_own(console: Console) -> int:
    """Measure every part in a process and on a stack of its own, and report it; one that fails stops no other."""
    missed = []
    for name in _PARTS:
        command = [sys.executable, "-m", "benchmarks", "--only", name, "--report"]
        try:
            subprocess.run(command, cwd=PROJECT_ROOT, timeout=_PART_SECONDS, check=True)
        except subprocess.TimeoutExpired:
            missed.append(f"{name} (not ended after {_PART_SECONDS / 60:.0f} minutes)")
        except subprocess.CalledProcessError:
            missed.append(f"{name} (failed)")
    console.print(f"written: {RESULTS.relative_to(PROJECT_ROOT)}")
    if missed:
        print(f"error: not measured: {', '.join(missed)}; earlier results of these are left", file=sys.stderr)
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the pipelines on a local stack of its own."
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(_PARTS), default=list(_PARTS), metavar="PART",
        help=f"parts to measure: {', '.join(_PARTS)} (default: all)",
    )  # fmt: skip
    for name, default, metavar, text in _NUMBERS:
        shown = " ".join(map(str, default)) if isinstance(default, list) else default
        some = "+" if isinstance(default, list) else None
        number = len(metavar) if isinstance(metavar, tuple) else some
        parser.add_argument(
            f"--{name}", nargs=number, type=int, default=default, metavar=metavar, help=f"{text} (default: {shown})"
        )
    parser.add_argument(
        "--latency", dest="latency_ms", type=float, default=100.0, metavar="MS", help="DEX latency (default: 100 ms)"
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=PROJECT_ROOT / ".local-bench",
        help="state of the stack (default: .local-bench)",
    )
    parser.add_argument(
        "--report", action="store_true",
        help="write each part into RESULTS.md; without any option this is done as well",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
