"""What the demo reports of each of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

Tell = Callable[[int, int], None]
"""Shows progress: steps done, steps in all (0: not known yet)."""


@dataclass(frozen=True)
class Check:
    """One promise, and whether it was found kept by reading it back."""

    claim: str
    passed: bool


@dataclass(frozen=True)
class Exhibit:
    """Something to look at, as it was received or read back.

    Args:
        title: what it is, and where it was found.
    """

    title: str
    text: str


@dataclass
class Report:
    """One part of the demo: a pipeline that ran, or an API that was called.

    Args:
        name: of the pipeline or the API.
        what: what ran: ids of runs, or the calls that were made.
        state: how it ended.
        seconds: from its start to its end.
        result: what came of it, in a few words.
        written: where things were written.
        exhibits: alerts, answers and stored things, word for word.
        explanation: what a reader should know, such as which failure is meant.
    """

    name: str
    what: str
    state: str
    seconds: float
    result: str
    written: list[str]
    exhibits: list[Exhibit]
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
