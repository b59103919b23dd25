"""Command line of the benchmarks: `python -m benchmarks`; `make bench` calls it without options."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.auction import measure_auction
from benchmarks.bench import Bench, BenchmarkError, bench
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

_PARTS: dict[str, tuple[str, Callable[[Bench, argparse.Namespace], Part]]] = {
    "parse": (
        "dag_file_parse_ms",
        lambda bench, options: measure_parsing(bench, repeat=options.repeat + 2),
    ),
    "mapped": (
        "mapped_client",
        lambda bench, options: measure_mapped(bench, tasks=options.tasks, repeat=options.repeat),
    ),
    "memory": (
        "task_memory",
        lambda bench, options: measure_memory(bench, clients=1_000, latency_ms=options.latency),
    ),
    "auction": (
        "auction",
        lambda bench, options: measure_auction(bench, sizes=options.orders, repeat=options.repeat),
    ),
    "orders_api": (
        "orders_api",
        lambda bench, options: measure_orders_api(bench, repeat=2 * options.repeat + 1),
    ),
    "planning": (
        "planning",
        lambda bench, options: measure_planning(records=1_000_000, repeat=options.repeat),
    ),
    "ingest": (
        "ingest",
        lambda bench, options: measure_ingest(bench, records=options.records, latency_ms=50.0, repeat=options.repeat),
    ),
    "small_files": (
        "small_files",
        lambda bench, options: measure_small_files(bench, counts=options.files, latency_ms=50.0, repeat=options.repeat),
    ),
    "delivery": (
        "event_delivery",
        lambda bench, options: measure_delivery(
            bench,
            events=options.events,
            owners=options.owners,
            posts=options.posts,
            latency_ms=50.0,
            repeat=options.repeat,
        ),
    ),
    "evidence": (
        "evidence",
        lambda bench, options: measure_evidence(
            bench,
            days=options.evidence[0],
            clients=options.evidence[1],
            latency_ms=options.latency,
            repeat=options.repeat,
        ),
    ),
    "operations": (
        "operations",
        lambda bench, options: measure_operations(
            bench,
            clients=options.operations[0],
            files=options.operations[1],
            owners=options.operations[2],
            repeat=options.repeat,
        ),
    ),
    "throughput": (
        "archive_throughput",
        lambda bench, options: measure_throughput(
            bench,
            sizes=options.clients,
            loop_clients=options.loop,
            latency_ms=options.latency,
            repeat=options.repeat,
        ),
    ),
}


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
                part = _PARTS[name][1](made, options)
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
    parser.add_argument(
        "--clients", nargs="+", type=int, default=[1_000, 10_000], metavar="N",
        help="throughput: numbers of clients (default: 1000 10000)",
    )  # fmt: skip
    parser.add_argument(
        "--loop", type=int, default=1_000, metavar="N",
        help="throughput: clients that the one-at-a-time loop is run with (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--orders", nargs="+", type=int, default=[10, 500], metavar="N",
        help="auction: numbers of orders (default: 10 500)",
    )  # fmt: skip
    parser.add_argument(
        "--records", type=int, default=1_000_000, metavar="N",
        help="ingest: records of the file; another one has ten times as many (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--files", type=int, nargs="+", default=[300, 5000], metavar="N",
        help="small_files: numbers of files that are dropped at once (default: 300 5000)",
    )  # fmt: skip
    parser.add_argument(
        "--events", type=int, default=10_000, metavar="N",
        help="delivery: pending events (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--owners", type=int, default=200, metavar="N",
        help="delivery: owners of these events (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--posts", type=int, default=20, metavar="N",
        help="delivery: events posted one by one to the idle stack (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--evidence", nargs=2, type=int, default=[10, 10_000], metavar=("DAYS", "CLIENTS"),
        help="evidence: days and clients of the archive (default: 10 10000)",
    )  # fmt: skip
    parser.add_argument(
        "--operations", nargs=3, type=int, default=[10_000, 5_000, 1_000], metavar=("CLIENTS", "FILES", "OWNERS"),
        help="operations: clients, files of the day, owners with 100 events each (default: 10000 5000 1000)",
    )  # fmt: skip
    parser.add_argument("--latency", type=float, default=100.0, metavar="MS", help="DEX latency (default: 100 ms)")
    parser.add_argument("--tasks", type=int, default=60, help="mapped: mapped tasks (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each kind (default: %(default)s)")
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
