"""What a part of the benchmarks reports, how it is kept, and the processes of their own that parts measure in."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local.processes.layout import PROJECT_ROOT, PYTHON

OUT = Path(__file__).parent / "out"


@dataclass(frozen=True)
class Comparison:
    """One row: ``ours`` beside ``baseline``, as text with units.

    Args:
        ratio: how they compare.
        aim: what was aimed at; empty where there is no aim.
        met: whether it is; None where there is no aim.
    """

    what: str
    ours: str
    baseline: str
    ratio: str
    aim: str = ""
    met: bool | None = None


@dataclass
class Part:
    """One part of the benchmarks.

    Args:
        explanation: what was measured, how, and what the baseline is.
        raw: every number behind the rows.
        notes: where the time goes; one paragraph or Markdown table each.
    """

    name: str
    explanation: str
    rows: list[Comparison]
    raw: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    at: str = ""
    load_before: float = 0.0
    load_after: float = 0.0

    def keep(self, load_before: float) -> None:
        """Write this part to ``benchmarks/out/<name>.json`` with the time and the machine's load (1 minute)."""
        self.at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.load_before, self.load_after = load_before, os.getloadavg()[0]
        OUT.mkdir(exist_ok=True)
        (OUT / f"{self.name}.json").write_text(json.dumps(asdict(self), indent=1) + "\n")


def in_times(
    what: str, ours: str, baseline: str, ratio: float, *, aim: float | None = None, ratio_digits: int = 2
) -> Comparison:
    """A row of how many times the baseline ours is; the aim is the most."""
    text, most = f"{ratio:.{ratio_digits}f} times", f"at most {aim:g} times" if aim else ""
    return Comparison(what, ours, baseline, text, most, ratio <= aim if aim else None)


def medians_in_times(
    what: str,
    ours: Sequence[float],
    baseline: Sequence[float],
    unit: str,
    *,
    digits: int = 1,
    aim: float | None = None,
    ratio_digits: int = 2,
) -> Comparison:
    """The same of medians."""
    ratio = statistics.median(ours) / statistics.median(baseline)
    texts = [median_and_range(values, unit, digits=digits) for values in (ours, baseline)]
    return in_times(what, texts[0], texts[1], ratio, aim=aim, ratio_digits=ratio_digits)


def medians_in_percent(
    what: str, ours: Sequence[float], baseline: Sequence[float], unit: str, *, aim: float | None = None
) -> Comparison:
    """A row of the share of the baseline's median that ours is; the aim is the least."""
    share = statistics.median(ours) / statistics.median(baseline)
    texts = [median_and_range(values, unit, digits=0) for values in (ours, baseline)]
    least = f"at least {aim:.0%}" if aim else ""
    return Comparison(what, texts[0], texts[1], f"{share:.0%}", least, share >= aim if aim else None)


def run_python(*arguments: object, environment: Mapping[str, str] | None = None) -> str:
    """The last line that a Python of its own prints; the lines before may be logs."""
    command = [str(PYTHON), *map(str, arguments)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()[-1]


def median_and_range(values: Sequence[float], unit: str, *, digits: int = 1) -> str:
    """Such as ``4.2 s (4.0-4.9)``; only the value where there is one."""
    text = f"{statistics.median(values):,.{digits}f} {unit}"
    if len(values) == 1:
        return text
    return f"{text} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def percentile(values: Sequence[float], share: int) -> float:
    """The value that ``share`` percent of them do not exceed; the greatest, where there are too few for that."""
    return sorted(values)[min(len(values) - 1, len(values) * share // 100)]
