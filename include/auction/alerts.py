"""What people are told of a run's orders: one alert for each that was not accepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from include.alerts import Alert, Failure, Severity
from include.auction.outcomes import Outcome, Result
from include.auction.summary import Summary
from include.slices import Slice

WAIT_TASK = "wait_for_results"
ORDER_TASK = "process_order"

LogUrl = Callable[[str, int | None], str]
"""Link to the log of a task and map index."""


def order_alerts(summary: Summary, slices: Sequence[Slice], *, pipeline: str, log_url: LogUrl) -> dict[str, Alert]:
    """The alerts of a run's orders, by a name that is the same whenever the same order ends in the same way.

    Args:
        summary: what became of the orders.
        slices: what the tasks were given.
        pipeline: id of the DAG.
        log_url: makes links to logs.
    """
    found = {}
    for map_index, piece in enumerate(slices):
        for outcome in summary.outcomes[piece.start : piece.stop]:
            if outcome.failed:
                alert = _order_alert(outcome, summary.run_id, pipeline, map_index, log_url(ORDER_TASK, map_index))
                found[f"{outcome.order_id}/{outcome.result}"] = alert
    return found


def no_orders(*, pipeline: str, run_id: str, reason: str, log_url: LogUrl) -> Alert:
    """The alert of a run whose results could not be read."""
    failure = Failure("the results", reason, WAIT_TASK, None, log_url(WAIT_TASK, None))
    return Alert(Severity.ERROR, pipeline, run_id, "no order was processed: waiting for results failed", (), [failure])


def _order_alert(outcome: Outcome, run_id: str, pipeline: str, map_index: int, log: str) -> Alert:
    rejected = outcome.result is Result.REJECTED
    what = f"order {outcome.index} (id {outcome.order_id})"
    failure = Failure(what, outcome.reason or "no reason given", ORDER_TASK, map_index, log)
    return Alert(
        Severity.WARNING if rejected else Severity.ERROR,
        pipeline,
        run_id,
        f"order {outcome.index} {'was rejected' if rejected else 'failed'}",
        (),
        [failure],
    )
