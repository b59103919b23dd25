"""Benchmark results as Markdown: tables for the terminal, and benchmarks/RESULTS.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.results import Part
from local.processes.layout import EMULATOR_VENV

RESULTS = Path(__file__).parent / "RESULTS.md"

_INTRODUCTION = """\
# Benchmark results

Written by `make bench` (more than half an hour); do not edit. What is compared was measured on one local stack in one
run, in turns where the runs are short. On that stack Airflow, PostgreSQL, the stubs, the AWS emulator with its
functions and the benchmark itself share one machine, so that absolute times say less than the comparisons.

To repeat: `make bench`. One part: `.venv/bin/python -m benchmarks --only mapped`; other sizes: `--clients 2000`;
`.venv/bin/python -m benchmarks --help` lists all. Raw numbers: `benchmarks/out/*.json`.
"""


def part_table(part: Part) -> str:
    """One part as Markdown."""
    head = ["what", "this project", "baseline", "comparison", "aim", "met"]
    rows = [
        [
            row.what,
            row.ours,
            row.baseline,
            row.ratio,
            row.aim or "-",
            {None: "-", True: "yes", False: "**no**"}[row.met],
        ]
        for row in part.rows
    ]
    table = "\n".join(_line(cells) for cells in (head, ["---"] * len(head), *rows))
    measured = (
        f"Measured {part.at}; load average (1 minute) {part.load_before:.1f} before, {part.load_after:.1f} after."
    )
    return "\n\n".join([f"## {part.name}", part.explanation, table, *part.notes, measured]) + "\n"


def write_results(parts: Iterable[Part]) -> None:
    """Write RESULTS.md."""
    RESULTS.write_text("\n".join([_INTRODUCTION, _machine(), *(part_table(part) for part in parts)]))


def _machine() -> str:
    facts = {
        "CPU": f"{os.cpu_count()} cores, {_processor()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Airflow": f"{version('apache-airflow')}, LocalExecutor, PostgreSQL",
        "emulator": f"ministack {_emulator_version()}",
        "clients": ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "httpx", "boto3", "requests")),
    }
    lines = [_line(["machine", ""]), _line(["---", "---"]), *(_line([name, text]) for name, text in facts.items())]
    return "\n".join(lines) + "\n"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _emulator_version() -> str:
    found = sorted(EMULATOR_VENV.glob("lib/python*/site-packages/ministack-*.dist-info"))
    return found[0].name.removeprefix("ministack-").removesuffix(".dist-info") if found else "unknown"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
