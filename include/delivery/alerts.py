"""What people are told of a run's events: one alert for each that failed for good, or one for many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from include.alerts import Alert, Failure, Severity
from include.delivery.dead_letters import DeadLetter
from include.delivery.events import EventTable
from include.delivery.summary import Tally, summarize

SELECT_TASK = "select_due"
DELIVER_TASK = "deliver"

MAX_SINGLE = 10
"""Beyond so many, one alert tells of all: what fails together has one cause."""

KILLED = "the task was killed or never ran; see its log"
"""Reason of a task that left none."""

LogUrl = Callable[[str, int | None], str]
"""Link to the log of a task and map index."""


def failure_alerts(tallies: Sequence[Tally | None], *, pipeline: str, run_id: str, log_url: LogUrl) -> dict[str, Alert]:
    """The alerts of a run's failed events, by a name that is the same whenever the same event fails.

    Args:
        tallies: what the tasks did, by map index; None of one that left nothing.
        pipeline: id of the DAG.
        run_id: of the run.
        log_url: makes links to logs.
    """
    failures = {
        letter.event_id: _failure(letter, index, log_url)
        for index, tally in enumerate(tallies)
        if tally is not None
        for letter in tally.dead
    }
    total = summarize(tally for tally in tallies if tally is not None)
    count = max(len(failures), total.failed)
    unqueued = f"failed events of this run that the dead-letter queue did not take: {total.unqueued:,}; see the log"
    missing = [unqueued] if total.unqueued else []
    if count <= MAX_SINGLE:
        return {
            event_id: Alert(
                Severity.ERROR, pipeline, run_id, f"event {event_id} could not be delivered", missing, [failure]
            )
            for event_id, failure in failures.items()
        }
    headline = f"{count:,} events could not be delivered"
    facts = missing or ["each is in the dead-letter queue of the delivery, and can be replayed"]
    return {f"{run_id}/failed": Alert(Severity.ERROR, pipeline, run_id, headline, facts, list(failures.values()))}


def trouble_alert(troubles: Mapping[int | None, str], *, pipeline: str, run_id: str, log_url: LogUrl) -> Alert:
    """The alert of a run some of whose tasks gave up.

    Args:
        troubles: why, by map index; None is the task that finds what is due.
        pipeline: id of the DAG.
        run_id: of the run.
        log_url: makes links to logs.
    """
    failures = [
        Failure("what is due", reason, SELECT_TASK, None, log_url(SELECT_TASK, None))
        if index is None
        else Failure("a share of what is due", reason, DELIVER_TASK, index, log_url(DELIVER_TASK, index))
        for index, reason in troubles.items()
    ]
    facts = ["nothing is lost: what is due stays due, and the next run takes it"]
    return Alert(Severity.ERROR, pipeline, run_id, "events were not delivered by this run", facts, failures)


def untold(events: EventTable, owners: Iterable[str], *, since: float) -> list[DeadLetter]:
    """The failed events of owners whose task was killed, and so told nobody.

    Events that another run saw fail at the same time are among them, and are told twice.

    Args:
        events: the table of events.
        owners: of the task's share.
        since: when the run began, seconds since the epoch.

    Raises:
        AwsUnavailableError: a retry may work.
        AwsRefusedError: it will not.
    """
    return [DeadLetter.recorded(event) for owner in owners for event in events.failed(owner, since)]


def _failure(letter: DeadLetter, index: int, log_url: LogUrl) -> Failure:
    what = f"event {letter.event_id} of {letter.owner}"
    reason = f"{letter.attempts} attempts since {letter.first_failed_at}, the last one: {letter.error}"
    return Failure(what, reason, DELIVER_TASK, index, log_url(DELIVER_TASK, index))
