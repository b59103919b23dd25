"""What the delivery says of events that have no status of their own; ``include/delivery/ledger.py`` writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from lambdas.common.aws import timestamp
from lambdas.events_api.models import Event, Status

PAYLOAD_APART = 1
"""Form of events whose payload may be in an item of its own."""


Outcome = tuple[int, int, int]
"""How an event was delivered: when its post ended (milliseconds since the epoch), the status of the response, and how
many milliseconds it took."""

Outcomes = Mapping[str, Outcome | None]
"""By the event's position; None if the event itself says what became of it."""


@dataclass(frozen=True)
class Lane:
    """An owner's lane.

    Args:
        in_use: a worker has had it, so events may be left without a status of their own.
        marker: events up to this position are looked for no more.
        top: the delivery has begun on no event behind this position.
        batches: how many there are.
        form: of events that the worker that had it last can read: see ``include/delivery/ledger.py``.
        outcomes: of the last events.
    """

    in_use: bool = False
    marker: str = ""
    top: str = ""
    batches: int = 0
    form: int = 0
    outcomes: Outcomes = field(default_factory=dict)

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Self:
        """The lane of an item of the table; of none, a lane that nobody has had."""
        marker: str = item.get("marker", {"S": ""})["S"]
        top: str = item.get("top", {"S": marker})["S"]
        batches, form = (int(item.get(name, {"N": "0"})["N"]) for name in ("batches", "event_form"))
        return cls("version" in item, marker, top, batches, form, outcomes_of(item))

    def needs_outcome(self, event: Event) -> bool:
        """Whether only a batch tells how, or whether, an event was delivered that has no status of its own."""
        return event.position not in self.outcomes and event.position <= self.top

    def applied(self, event: Event, outcomes: Outcomes) -> Event:
        """An event without a status of its own as it is: pending, unless the lane or a batch lists an outcome of it."""
        outcome = self.outcomes.get(event.position, outcomes.get(event.position))
        return replace(event, next_attempt_at=event.created_at) if outcome is None else delivered(event, outcome)


def delivered(event: Event, outcome: Outcome) -> Event:
    """An event that was accepted at its first attempt."""
    ended_ms, status, milliseconds = outcome
    attempt = {"time": _time(ended_ms - milliseconds), "status": status, "milliseconds": milliseconds, "cause": None}
    return replace(
        event,
        status=Status.DELIVERED,
        delivery_attempts=1,
        last_status=status,
        delivered_at=_time(ended_ms),
        attempts=json.dumps([attempt], separators=(",", ":")),
    )


def lane_key(owner: str) -> str:
    """Key of an owner's lane in the table of events; no event has such an id."""
    return f"lane#{owner}"


def batch_key(owner: str, number: int) -> str:
    """Key of a batch of outcomes; they are numbered from 1."""
    return f"batch#{number}#{owner}"


def outcomes_of(item: Mapping[str, Any]) -> Outcomes:
    """What a lane or a batch lists: of each event its time of creation in milliseconds, its id, and its outcome."""
    found: dict[str, Outcome | None] = {}
    for text in item.get("entries", {"S": ""})["S"].split():
        created, event_id, *outcome = text.split(".")
        created_ms = int(created, 16)
        position = f"{_time(created_ms)}#evt_{event_id}"
        found[position] = None
        if outcome:
            after, status, milliseconds = outcome
            found[position] = (created_ms + int(after, 16), int(status), int(milliseconds))
    return found


def _time(milliseconds: int) -> str:
    return timestamp(datetime.fromtimestamp(milliseconds / 1000, UTC))
