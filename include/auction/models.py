"""The orders of one run, as Lambda A gave them: kept once in S3, so that every task and every retry sees the same.

What became of each order: what a retry resumes from and what the summary is made of.

The summary of a run: every order accounted for (spec: auction, Summary).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from include.auction.keys import order_id, summary_key
from include.clients.s3 import create_json, get_json, put_json, split_place
from include.errors import InvalidAnswerError, StorageRefusedError
from include.mapped_work import Slice, cut_bounds

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class OrderBook:
    """A run's orders.

    Args:
        run_id: the run's id.
        day: UTC day under which they are stored.
        orders: in Lambda A's order; an order is known by its index.
    """

    run_id: str
    day: date
    orders: tuple[Any, ...]

    def order_id(self, index: int) -> str:
        """Id of the order at ``index``."""
        return order_id(self.run_id, index)

    def payload(self, index: int) -> dict[str, Any] | None:
        """What Lambda B is given: the order's own fields, its id and its day; None for what is no JSON object."""
        order = self.orders[index]
        if not isinstance(order, dict):
            return None
        return {**order, "order_id": self.order_id(index), "order_date": self.day.isoformat()}

    def cut(self, *, max_tasks: int, per_task: int) -> list[Slice]:
        """Cut the orders into at most ``max_tasks`` slices; see :func:`include.mapped_work.cut_bounds`."""
        bounds = cut_bounds(len(self.orders), max_tasks=max_tasks, per_task=per_task)
        return [slice_of(start, stop) for start, stop in bounds]


def slice_of(start: int, stop: int) -> Slice:
    """The orders from index ``start`` up to ``stop`` (exclusive), under the name that people see."""
    label = f"order {start}" if stop - start == 1 else f"orders {start}-{stop - 1}"
    return Slice(start, stop, label)


def read_answer(answer: object) -> list[Any] | None:
    """Lambda A's answer: the orders, or None when there are no results yet.

    An order that is no JSON object is left in: it fails by itself and the others go on.

    Raises:
        InvalidAnswerError: the answer is malformed; the message says how, and holds nothing of it.
    """
    if not isinstance(answer, dict):
        raise InvalidAnswerError(f"the answer is not an object but {type(answer).__name__}")
    if "results" not in answer:
        raise InvalidAnswerError("the answer has no field 'results'")
    ready = answer["results"]
    if not isinstance(ready, bool):
        raise InvalidAnswerError(f"'results' in the answer is not true or false but {type(ready).__name__}")
    if not ready:
        return None
    if "orders" not in answer:
        raise InvalidAnswerError("the answer has results, but no field 'orders'")
    orders = answer["orders"]
    if not isinstance(orders, list):
        raise InvalidAnswerError(f"'orders' in the answer is not a list but {type(orders).__name__}")
    return orders


def keep_book(s3: S3Client, place: str, *, run_id: str, day: date, orders: Sequence[Any]) -> OrderBook:
    """Keep a run's orders at ``place``, once: if some are there already, those are the run's orders.

    Raises:
        StorageUnavailableError: a retry may work.
        StorageRefusedError: it will not.
    """
    document = {"run_id": run_id, "date": day.isoformat(), "orders": list(orders)}
    if create_json(s3, *split_place(place), document):
        return OrderBook(run_id, day, tuple(orders))
    return read_book(s3, place)


def find_book(s3: S3Client, place: str) -> OrderBook | None:
    """The orders that were kept at ``place``, or None.

    Raises:
        StorageUnavailableError: a retry may work.
        StorageRefusedError: it will not.
    """
    document = get_json(s3, *split_place(place))
    if document is None:
        return None
    return OrderBook(document["run_id"], date.fromisoformat(document["date"]), tuple(document["orders"]))


def read_book(s3: S3Client, place: str) -> OrderBook:
    """The orders that were kept at ``place``.

    Raises:
        StorageUnavailableError: a retry may work.
        StorageRefusedError: it will not, also because the orders are gone.
    """
    book = find_book(s3, place)
    if book is None:
        raise orders_gone(place)
    return book


def orders_gone(place: str) -> StorageRefusedError:
    """The error of a run whose orders were kept at ``place`` and are not there any more."""
    return StorageRefusedError(f"the run's orders {place} are gone (they expire after 30 days); start a new run")


class Result(StrEnum):
    """How an order ended."""

    ACCEPTED = "accepted"
    """It is stored at ``key``."""
    REJECTED = "rejected"
    """Lambda B rejected it."""
    ERRORED = "errored"
    """Anything else; ``reason`` says what."""


@dataclass(frozen=True)
class Outcome:
    """One order's outcome.

    Args:
        index: the order's position, from 0.
        order_id: see :func:`include.auction.keys.order_id`.
        key: where it is stored, if it was accepted.
        reason: why it was not, without anything of the order.
        retryable: a retry may mend it.
    """

    index: int
    order_id: str
    result: Result
    key: str | None = None
    reason: str | None = None
    retryable: bool = False

    @property
    def item(self) -> int:
        """The order."""
        return self.index

    @property
    def failed(self) -> bool:
        """Whether it was not accepted, which fails its task."""
        return self.result is not Result.ACCEPTED

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """The outcome whose fields are in ``document``."""
        return cls(**{**document, "result": Result(document["result"])})


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
