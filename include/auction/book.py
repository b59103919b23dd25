"""The orders of one run, as Lambda A gave them: kept once in S3, so that every task and every retry sees the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from include.auction.keys import order_id
from include.clients.s3 import create_json, get_json, split_place
from include.errors import InvalidAnswerError, StorageRefusedError
from include.slices import Slice, cut_bounds

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
        """Cut the orders into at most ``max_tasks`` slices; see :func:`include.slices.cut_bounds`."""
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
