"""What an alert says (spec: platform, Alerts), as plain text that SNS and Slack both take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from include.text import one_line

MAX_FAILURES = 20
"""Failures listed one by one; the rest is a number. SNS takes 256 KB, a person takes less."""

_MAX_REASON = 400
_MAX_FACT = 2000
_MAX_SUBJECT = 99


RUNBOOK = "docs/RUNBOOK.md"
"""Where the runbook is in the repository, unless the setting ``runbook_url`` names an address."""


class Section(StrEnum):
    """Sections of the runbook that alerts and notes lead to, by their anchors."""

    ARCHIVE_RUN = "dex-trigger-archive-failed-run"
    AUCTION_RUN = "energy-auction-failed-run"
    REJECTED_ORDER = "a-rejected-order"
    UNDELIVERED_ALERTS = "energy-auction-undelivered-alerts"
    INGEST_RUN = "call-details-ingest-failed-run"
    WATCH = "files-that-stay"
    CALL_DETAILS_DEAD_LETTERS = "call-details-dead-letters"
    DELIVERY_RUN = "event-delivery-failed-run"
    EVENT_DEAD_LETTERS = "event-delivery-dead-letters"
    UNREPORTED = "airflow-unreported-failure"
    REFUSED = "a-run-that-was-refused"


class Severity(StrEnum):
    """How much it matters."""

    ERROR = "ERROR"
    WARNING = "WARNING"


@dataclass(frozen=True)
class Failure:
    """One thing that failed, such as ``client 1042 (Acme Grid)``, and the task that it failed in."""

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
        facts: further lines, such as where the manifest is.
        next_step: the last line: where the runbook says what to do.
        operations: address of the operations page, if it is known.
    """

    severity: Severity
    pipeline: str
    run_id: str
    headline: str
    facts: Sequence[str] = ()
    failures: Sequence[Failure] = field(default=())
    next_step: str = RUNBOOK
    operations: str = ""

    @property
    def subject(self) -> str:
        """Subject for SNS: printable ASCII, less than 100 characters, as SNS documents it."""
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
            lines.append(f"- and {len(self.failures) - MAX_FAILURES} more")
        if self.operations:
            lines.append(f"operations page: {self.operations}")
        return "\n".join([*lines, f"what to do: {self.next_step}"])


Send = Callable[[Alert], None]
"""Sends an alert through one channel, or raises whatever it likes; several threads may use it at once."""

KILLED = "the task was killed or never ran; see its log"
"""Reason of a task that recorded none."""

LogUrl = Callable[[str, int | None], str]
"""Link to the log of a task and map index."""


@dataclass(frozen=True)
class RunRef:
    """The run of a DAG (``pipeline``) that alerts are about; ``operations`` as in :class:`Alert`."""

    pipeline: str
    run_id: str
    log_url: LogUrl
    runbook: str = RUNBOOK
    operations: str = ""

    def failure(self, what: str, reason: str | None, task: str, map_index: int | None = None) -> Failure:
        """A failure in one of the run's tasks."""
        return Failure(what, reason or "no reason given", task, map_index, self.log_url(task, map_index))

    def alert(
        self,
        severity: Severity,
        headline: str,
        facts: Sequence[str] = (),
        failures: Sequence[Failure] = (),
        *,
        section: Section,
    ) -> Alert:
        """An alert about the run, whose next step is in a section of the runbook."""
        step = next_step(self.runbook, section)
        return Alert(severity, self.pipeline, self.run_id, headline, facts, failures, step, self.operations)


def next_step(runbook: str, section: Section) -> str:
    """Link to a section of the runbook, given where that is."""
    return f"{runbook}#{section}"


_MAX_NOTE_FACT = 250


def run_note(headline: str, facts: Mapping[str, object], step: str | None, operations: str) -> list[str]:
    """The lines of a run's note, which the UI shows as Markdown: what the run did, what to do, numbers and keys.

    Args:
        headline: one sentence.
        facts: by name; texts, such as keys of others, stand as code, so that nothing in them is markup. They come last,
            as a note that is too long is cut.
        step: link to what to do; None = nothing.
        operations: address of the run's view of the operations page.
    """
    shown = {
        name: f"{value:,}" if isinstance(value, int) else f"`{one_line(str(value), _MAX_NOTE_FACT).replace('`', "'")}`"
        for name, value in facts.items()
    }
    links = {"what to do": step or "nothing", "more": f"[operations page]({operations})"}
    lines = [f"{name}: {value}" for name, value in {**links, **shown}.items()]
    return [f"**{one_line(headline, _MAX_NOTE_FACT)}**", "", *(f"- {line}" for line in lines)]
