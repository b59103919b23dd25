"""What a run of the delivery reports: dead letters to their queue, counts, and the alerts about them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from include.alerts import Alert, Failure, RunRef, Section, Severity
from include.clients.aws import aws_errors
from include.delivery.due import Due
from include.delivery.event_table import EventTable
from include.delivery.models import Attempt, Change, Event, Status, timestamp

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True)
class DeadLetter:
    """An event that failed for good; the table keeps it, and it can be replayed.

    Args:
        attempts: how often it was posted.
        last_status: HTTP status of the last attempt; None if it was not answered.
        error: why it failed, on a short line without anything of the answer's body.
        first_failed_at: time of the first failed attempt, ISO 8601.
    """

    event_id: str
    owner: str
    attempts: int
    last_status: int | None
    error: str
    first_failed_at: str

    @classmethod
    def of(cls, event: Event, attempt: Attempt) -> Self:
        """The dead letter of an event, as it was claimed for its last attempt, which failed."""
        since = event.first_failed_at or timestamp(attempt.ended_at)
        return cls(event.event_id, event.owner, event.attempts + 1, attempt.response.status, attempt.error, since)

    @classmethod
    def recorded(cls, event: Event) -> Self:
        """The dead letter of an event that the table has as failed."""
        since = event.first_failed_at or event.created_at
        return cls(event.event_id, event.owner, event.attempts, event.last_status, event.last_error or "", since)


class DeadLetters:
    """The dead letters of one queue; the boto3 client is safe to share between threads."""

    def __init__(self, sqs: SQSClient, queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url

    def send(self, letter: DeadLetter) -> None:
        """Send a dead letter. Done before the table says "failed": a worker that dies in between sends a second one."""
        with aws_errors("SQS", f"send to {self._queue_url}"):
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=json.dumps(asdict(letter)))


MAX_NAMED = 100
"""Failed events that a task names; of more, it gives the number."""

MAX_SINGLE = 10
"""Beyond so many failed events, one alert reports all: what fails together has one cause."""

_ALERTED = "told_failure"
"""Attribute of an event: ``first_failed_at`` of the failure that was alerted."""

SELECT_TASK = "select_due"
DELIVER_TASK = "deliver"


@dataclass
class DeliveryCounts:
    """What one task, or all of a run, did.

    Args:
        attempts: posts.
        delivered: events that were accepted.
        postponed: attempts that failed and are followed by another.
        failed: events whose last attempt failed.
        lost: posts of events that somebody else changed before the outcome could be written.
        unqueued: failed events that the dead-letter queue did not take.
        dead: the failed events; at most ``MAX_NAMED`` of a task.
    """

    attempts: int = 0
    delivered: int = 0
    postponed: int = 0
    failed: int = 0
    lost: int = 0
    unqueued: int = 0
    dead: list[DeadLetter] = field(default_factory=list)

    def count(self, change: Change) -> None:
        """Count an outcome that was written."""
        status = change.sets.get("status")
        if status == Status.DELIVERED:
            self.delivered += 1
        elif status == Status.FAILED:
            self.failed += 1
        elif "next_attempt_at" in change.sets:
            self.postponed += 1

    def to_document(self) -> dict[str, Any]:
        """What a task returns: numbers and references."""
        return {**asdict(self), "dead": [asdict(letter) for letter in self.dead[:MAX_NAMED]]}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """What :meth:`to_document` returned."""
        return cls(**{**document, "dead": [DeadLetter(**letter) for letter in document["dead"]]})

    @classmethod
    def total(cls, parts: Iterable[DeliveryCounts]) -> Self:
        """The sum of what several tasks did."""
        total = cls()
        for part in parts:
            for each in fields(cls):
                setattr(total, each.name, getattr(total, each.name) + getattr(part, each.name))
        return total


def metrics(due: Due | None, total: DeliveryCounts) -> dict[str, float]:
    """The run's metrics by name; what is due only if that is known, a success rate only if something was posted."""
    values = {
        "DeliveryAttempts": float(total.attempts),
        "DeliveredEvents": float(total.delivered),
        "FailedEvents": float(total.failed),
    }
    if due is not None:
        values |= {"OldestPendingSeconds": due.oldest_seconds, "DueEvents": float(due.events)}
    if total.attempts:
        values["DeliverySuccessRate"] = total.delivered / total.attempts
    return values


def unreported(events: EventTable, owners: Iterable[str], *, since: float) -> list[DeadLetter]:
    """The failed events of the owners of a task that was killed before it could report them.

    ``since`` is when the run began, seconds since the epoch. Events that another run saw fail at the same time are
    among them: see :func:`not_alerted`.
    """
    return [DeadLetter.recorded(event) for owner in owners for event in events.failed(owner, since)]


def not_alerted(events: EventTable, counts: Sequence[DeliveryCounts]) -> tuple[list[DeliveryCounts], list[Change]]:
    """Leave out the events whose failure was alerted: of several runs at a time, more than one may see it.

    Returns what is to be alerted of what the run's tasks did; and the changes that mark those events, to be made after
    the alert: a run that is killed in between leaves them to be alerted again.
    """
    keys = {letter.event_id for each in counts for letter in each.dead}
    items = {item["event_id"]["S"]: item for item in events.items(sorted(keys))}
    left, marks = [], dict[str, Change]()
    for each in counts:
        # Only this run can report those that the queue did not take, or that the task does not name.
        alone = each.unqueued or each.failed > len(each.dead)
        dead = [letter for letter in each.dead if alone or not _is(letter, items, _ALERTED)]
        left.append(replace(each, dead=dead, failed=each.failed - len(each.dead) + len(dead)))
        for letter in dead:
            if _is(letter, items, "first_failed_at") and not _is(letter, items, _ALERTED):
                event = Event.of(items[letter.event_id])
                marks[event.event_id] = Change.of(event, {_ALERTED: letter.first_failed_at})
    return left, list(marks.values())


def _is(letter: DeadLetter, items: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    """Whether an attribute of the event tells of this failure: after a replay, the first attempt is another one."""
    return bool(items.get(letter.event_id, {}).get(name) == {"S": letter.first_failed_at})


def failure_alerts(counts: Sequence[DeliveryCounts], run: RunRef) -> dict[str, Alert]:
    """The alerts of a run's failed events, one for each or one for many, of what its tasks did by map index.

    Each has a name that is the same whenever the same event fails.
    """
    failures = {
        letter.event_id: _failure(letter, index, run) for index, each in enumerate(counts) for letter in each.dead
    }
    total = DeliveryCounts.total(counts)
    count = max(len(failures), total.failed)
    unqueued = f"failed events of this run that the dead-letter queue did not take: {total.unqueued:,}; see the log"
    missing = [unqueued] if total.unqueued else []
    if count <= MAX_SINGLE:
        return {
            event_id: run.alert(
                Severity.ERROR,
                f"event {event_id} could not be delivered",
                missing,
                [failure],
                section=Section.EVENT_DEAD_LETTERS,
            )
            for event_id, failure in failures.items()
        }
    headline = f"{count:,} events could not be delivered"
    facts = missing or ["each is in the dead-letter queue of the delivery, and can be replayed"]
    many = run.alert(Severity.ERROR, headline, facts, list(failures.values()), section=Section.EVENT_DEAD_LETTERS)
    return {f"{run.run_id}/failed": many}


def task_failures_alert(reasons: Mapping[int | None, str], run: RunRef) -> Alert:
    """The alert of a run some of whose tasks failed, with reasons by map index; None: finding what is due."""
    failures = [
        run.failure("what is due", reason, SELECT_TASK)
        if index is None
        else run.failure("a share of what is due", reason, DELIVER_TASK, index)
        for index, reason in reasons.items()
    ]
    facts = ["nothing is lost: what is due stays due, and the next run takes it"]
    return run.alert(
        Severity.ERROR, "events were not delivered by this run", facts, failures, section=Section.DELIVERY_RUN
    )


def _failure(letter: DeadLetter, index: int, run: RunRef) -> Failure:
    what = f"event {letter.event_id} of {letter.owner}"
    reason = f"{letter.attempts} attempts since {letter.first_failed_at}, the last one: {letter.error}"
    return run.failure(what, reason, DELIVER_TASK, index)
