"""What the demo reports of one pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

Tell = Callable[[int, int], None]
"""Shows progress: steps done, steps in all."""


@dataclass(frozen=True)
class Check:
    """One promise, and whether it was found kept by reading it back."""

    claim: str
    passed: bool


@dataclass
class PipelineReport:
    """One pipeline's part of the demo.

    Args:
        seconds: from trigger to the end of the run.
        result: what came of it, in a few words.
        written: where things were written.
        alerts: alerts as they were received.
        explanation: what a reader should know, such as which failure is meant.
    """

    pipeline: str
    run_id: str
    state: str
    seconds: float
    result: str
    written: list[str]
    alerts: list[str]
    explanation: str
    checks: list[Check] = field(default_factory=list)

    def check(self, claim: str, passed: bool) -> None:
        """Note a promise."""
        self.checks.append(Check(claim, passed))

    @property
    def passed(self) -> bool:
        """Every promise is kept, and there is at least one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def to_document(self) -> dict[str, Any]:
        """A JSON document."""
        return {**asdict(self), "passed": self.passed}
