"""What an alert says (spec: platform, Alerts), as plain text that SNS and Slack both take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from include.text import one_line

MAX_FAILURES = 20
"""Failures listed one by one; the rest is a number. SNS takes 256 KB, a person takes less."""

_MAX_REASON = 400
_MAX_FACT = 2000
_MAX_SUBJECT = 100


class Severity(StrEnum):
    """How much it matters."""

    ERROR = "ERROR"
    WARNING = "WARNING"


@dataclass(frozen=True)
class Failure:
    """One thing that failed.

    Args:
        what: such as ``client 1042 (Acme Grid)``.
        task: task id.
        map_index: index of the mapped task, or None.
        log_url: link to its log.
    """

    what: str
    reason: str
    task: str
    map_index: int | None = None
    log_url: str | None = None

    def __str__(self) -> str:
        index = "" if self.map_index is None else f"[{self.map_index}]"
        log = f"\n    log: {self.log_url}" if self.log_url else ""
        return f"- {one_line(self.what, _MAX_REASON)} in {self.task}{index}: {one_line(self.reason, _MAX_REASON)}{log}"


@dataclass(frozen=True)
class Alert:
    """One message about one run.

    Args:
        headline: one sentence.
        facts: further lines, such as where the manifest lies.
    """

    severity: Severity
    pipeline: str
    run_id: str
    headline: str
    facts: Sequence[str] = ()
    failures: Sequence[Failure] = field(default=())

    @property
    def subject(self) -> str:
        """Subject for SNS: printable ASCII, at most 100 characters."""
        text = f"[{self.severity}] {self.pipeline}: {one_line(self.headline, _MAX_REASON)}"
        return "".join(mark if " " <= mark <= "~" else "?" for mark in text[:_MAX_SUBJECT])

    @property
    def text(self) -> str:
        """The whole message."""
        lines = [
            f"{self.severity} in pipeline {self.pipeline}: {one_line(self.headline, _MAX_REASON)}",
            f"run: {one_line(self.run_id, _MAX_REASON)}",
            *(one_line(fact, _MAX_FACT) for fact in self.facts),
            *map(str, self.failures[:MAX_FAILURES]),
        ]
        if len(self.failures) > MAX_FAILURES:
            lines.append(f"- and {len(self.failures) - MAX_FAILURES} more, see the manifest")
        return "\n".join(lines)


KILLED = "the task was killed or never ran; see its log"
"""Reason of a task that recorded none."""

LogUrl = Callable[[str, int | None], str]
"""Link to the log of a task and map index."""


@dataclass(frozen=True)
class RunRef:
    """The run that alerts are about.

    Args:
        pipeline: id of the DAG.
        log_url: makes links to the run's logs.
    """

    pipeline: str
    run_id: str
    log_url: LogUrl

    def failure(self, what: str, reason: str | None, task: str, map_index: int | None = None) -> Failure:
        """A failure in one of the run's tasks."""
        return Failure(what, reason or "no reason given", task, map_index, self.log_url(task, map_index))

    def alert(
        self, severity: Severity, headline: str, facts: Sequence[str] = (), failures: Sequence[Failure] = ()
    ) -> Alert:
        """An alert about the run."""
        return Alert(severity, self.pipeline, self.run_id, headline, facts, failures)
