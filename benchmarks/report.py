"""Benchmark results as Markdown: tables for the terminal, and benchmarks/RESULTS.md."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.results import Part
from local.processes.layout import EMULATOR_VENV

RESULTS = Path(__file__).parent / "RESULTS.md"

_MEASURED = re.compile(r"^Measured (.+ UTC); load average \(1 minute\) ([\d.]+) before", re.M)

_INTRODUCTION = """\
# Benchmark results

Written by `make bench`, part by part; do not edit. Each part has a local stack of its own and ten minutes at most. What
is compared was measured on that stack, in turns where the runs are short. On it Airflow, PostgreSQL, the stubs, the AWS
emulator with its functions and the benchmark itself share one machine, so that absolute times say less than the
comparisons.

To repeat: `make bench`. One part: `.venv/bin/python -m benchmarks --only mapped --report`; other sizes:
`--clients 2000`; without `--report` this file stays as it is. `.venv/bin/python -m benchmarks --help` lists all. Raw
numbers: `benchmarks/out/*.json`.
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


def write_results(part: Part, names: Sequence[str]) -> None:
    """Write RESULTS.md with this part's section in place of its earlier one.

    Args:
        names: of all parts, in the file's order.
    """
    before = RESULTS.read_text() if RESULTS.exists() else ""
    RESULTS.write_text("\n".join([_INTRODUCTION, _machine(), merged(before, part, names)]))


def merged(before: str, part: Part, names: Sequence[str]) -> str:
    """The sections of all parts, each as it was measured last, under a table of when that was.

    Args:
        before: the file as it is, or nothing.
        names: of all parts, in the file's order; sections of others go.
    """
    sections = {text.partition("\n")[0]: f"## {text.strip()}\n" for text in re.split(r"^## ", before, flags=re.M)[1:]}
    sections[part.name] = part_table(part)
    lines = [_line(["part", "measured", "load average", "aims met"]), _line(["---"] * 4)]
    for name in names:
        found = _MEASURED.search(sections.get(name, ""))
        if found is None:
            lines.append(_line([name, "**not measured**", "-", "-"]))
        else:
            met, missed = sections[name].count("| yes |"), sections[name].count("| **no** |")
            lines.append(_line([name, found[1], found[2], f"{met} of {met + missed}" if met + missed else "-"]))
    return "\n".join(["\n".join(lines) + "\n", *(sections[name] for name in names if name in sections)])


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
