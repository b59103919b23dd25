"""The summary of a run: every order accounted for (spec: auction, Summary)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from include.auction.book import OrderBook
from include.auction.keys import summary_key
from include.auction.outcomes import Outcome, Result
from include.clients.s3 import get_json, put_json
from include.slices import Slice

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NO_OUTCOME = "no outcome: the task was killed, timed out or never ran; see its log"
"""Reason of an order whose task left nothing behind."""


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Args:
        run_id: the run's id.
        day: UTC day of its papers.
        outcomes: one per order, in their order.
        reason: why there are no orders, where that is not what Lambda A answered.
    """

    run_id: str
    day: date
    outcomes: tuple[Outcome, ...] = ()
    reason: str | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many orders, and how many ended in which way."""
        ended = {result.value: sum(outcome.result is result for outcome in self.outcomes) for result in Result}
        return {"total": len(self.outcomes), **ended}

    @property
    def failures(self) -> list[Outcome]:
        """The outcomes of the orders that were not accepted."""
        return [outcome for outcome in self.outcomes if outcome.failed]

    def to_document(self) -> dict[str, Any]:
        """The JSON document that goes to S3."""
        return {
            "run_id": self.run_id,
            "date": self.day.isoformat(),
            **self.counts,
            "keys": [outcome.key for outcome in self.outcomes if outcome.key is not None],
            "not_accepted": [
                {
                    "index": failure.index,
                    "order_id": failure.order_id,
                    "result": failure.result.value,
                    "reason": failure.reason,
                }
                for failure in self.failures
            ],
            "reason": self.reason,
        }


def keep_summary(s3: S3Client, bucket: str, summary: Summary) -> str:
    """Keep a run's summary; one without orders never replaces one with orders, of the run before it was cleared.

    Returns:
        its key.

    Raises:
        StorageUnavailableError: a retry may work.
        StorageRefusedError: it will not.
    """
    key = summary_key(summary.day, summary.run_id)
    if summary.outcomes or not had_orders(s3, bucket, summary.day, summary.run_id):
        put_json(s3, bucket, key, summary.to_document())
    return key


def had_orders(s3: S3Client, bucket: str, day: date, run_id: str) -> bool:
    """Whether a run's summary tells of orders.

    Raises:
        StorageUnavailableError: a retry may work.
        StorageRefusedError: it will not.
    """
    document = get_json(s3, bucket, summary_key(day, run_id))
    return document is not None and document["total"] > 0


def account(
    book: OrderBook,
    slices: Sequence[Slice],
    found: Sequence[Iterable[Outcome]],
    *,
    why_no_outcome: Callable[[int], str | None],
) -> Summary:
    """Match outcomes with the run's orders; an order without one has failed.

    Args:
        book: the run's orders.
        slices: what its tasks were given; they cover all orders, in order.
        found: the outcomes that each of them left.
        why_no_outcome: what is known, by slice index, of a task that left some of its orders without one.
    """
    outcomes: list[Outcome] = []
    for index, (piece, left) in enumerate(zip(slices, found, strict=True)):
        by_order = {outcome.index: outcome for outcome in left}
        orders = range(piece.start, piece.stop)
        missing = any(order not in by_order for order in orders)
        reason = (why_no_outcome(index) or NO_OUTCOME) if missing else None
        outcomes += [
            by_order.get(order) or Outcome(order, book.order_id(order), Result.ERRORED, reason=reason)
            for order in orders
        ]
    return Summary(book.run_id, book.day, tuple(outcomes))
