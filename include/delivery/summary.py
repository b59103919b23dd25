"""What the tasks of a run did, as numbers that travel and add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from include.delivery.changes import Change
from include.delivery.dead_letters import DeadLetter
from include.delivery.due import Due
from include.delivery.event import Status

MAX_NAMED = 100
"""Failed events that a task names; of more, it tells how many."""


@dataclass
class Tally:
    """What one task, or all of a run, did.

    Args:
        attempts: posts.
        delivered: events that were accepted.
        postponed: posts that were refused and are to be repeated.
        failed: events that were refused for the last time.
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

    def count(self, outcome: Change) -> None:
        """Count an outcome that was written."""
        status = outcome.sets.get("status")
        if status == Status.DELIVERED:
            self.delivered += 1
        elif status == Status.FAILED:
            self.failed += 1
        elif "next_attempt_at" in outcome.sets:
            self.postponed += 1

    def to_document(self) -> dict[str, Any]:
        """What a task returns: numbers and references."""
        return {**asdict(self), "dead": [asdict(letter) for letter in self.dead[:MAX_NAMED]]}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """What :meth:`to_document` returned."""
        return cls(**{**document, "dead": [DeadLetter(**letter) for letter in document["dead"]]})


def summarize(tallies: Iterable[Tally]) -> Tally:
    """The sum of what the tasks did."""
    total = Tally()
    for each in tallies:
        total.attempts += each.attempts
        total.delivered += each.delivered
        total.postponed += each.postponed
        total.failed += each.failed
        total.lost += each.lost
        total.unqueued += each.unqueued
        total.dead += each.dead
    return total


def metrics(due: Due | None, total: Tally) -> dict[str, float]:
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
