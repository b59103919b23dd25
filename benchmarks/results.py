"""What a part of the benchmarks reports, and how it is kept."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
        _file(self.name).write_text(json.dumps(asdict(self), indent=1) + "\n")


def median_and_range(values: Sequence[float], unit: str, *, digits: int = 1) -> str:
    """Such as ``4.2 s (4.0-4.9)``; only the value where there is one."""
    text = f"{statistics.median(values):,.{digits}f} {unit}"
    if len(values) == 1:
        return text
    return f"{text} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def percentile(values: Sequence[float], share: int) -> float:
    """The value that ``share`` percent of them do not exceed; the greatest, where there are too few for that."""
    return sorted(values)[min(len(values) - 1, len(values) * share // 100)]


def _file(name: str) -> Path:
    return OUT / f"{name}.json"
