"""A run's orders, the outcome of each, and the summary of all (spec: auction).

The orders are saved once, as Lambda A gave them, so that every task and every retry sees the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from include.auction.keys import order_id, summary_key
from include.clients.s3 import create_json, get_json, put_json, split_uri
from include.errors import StorageRefusedError
from include.mapped_work import Slice, cut_bounds

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Orders:
    """A run's orders.

    Args:
        day: UTC day under which they are stored.
        items: in Lambda A's order; an order is known by its index.
        function: Lambda B of the run, for a later run that finishes it; None where it is not known.
    """

    run_id: str
    day: date
    items: tuple[Any, ...]
    function: str | None = None

    @classmethod
    def find(cls, s3: S3Client, uri: str) -> Self | None:
        """The orders that were saved at ``uri`` (``s3://bucket/key``), or None."""
        document = get_json(s3, *split_uri(uri))
        if document is None:
            return None
        day, items = date.fromisoformat(document["date"]), tuple(document["orders"])
        return cls(document["run_id"], day, items, document.get("function"))

    @classmethod
    def load(cls, s3: S3Client, uri: str) -> Self:
        """The same, where they must be: without them a StorageRefusedError says that they are gone."""
        orders = cls.find(s3, uri)
        if orders is None:
            raise orders_gone(uri)
        return orders

    def save(self, s3: S3Client, uri: str) -> Self:
        """Save the orders at ``uri``, unless a run's orders are there already; returns those that are there now."""
        document = {
            "run_id": self.run_id,
            "date": self.day.isoformat(),
            "function": self.function,
            "orders": self.items,
        }
        return self if create_json(s3, *split_uri(uri), document) else self.load(s3, uri)

    def id_of(self, index: int) -> str:
        """Id of the order at ``index``."""
        return order_id(self.run_id, index)

    def payload(self, index: int) -> dict[str, Any] | None:
        """What Lambda B is given: the order's own fields, its id and its day; None for what is no JSON object.

        Fields of these names that Lambda A gave are kept beside them, as ``given_order_id`` and ``given_order_date``.
        """
        order = self.items[index]
        if not isinstance(order, dict):
            return None
        ours = {"order_id": self.id_of(index), "order_date": self.day.isoformat()}
        return {**order, **{f"given_{name}": order[name] for name in ours if name in order}, **ours}

    def cut(self, *, max_tasks: int, per_task: int) -> list[Slice]:
        """Cut the orders into at most ``max_tasks`` slices; see :func:`include.mapped_work.cut_bounds`."""
        bounds = cut_bounds(len(self.items), max_tasks=max_tasks, per_task=per_task)
        return [slice_of(start, stop) for start, stop in bounds]


def orders_gone(uri: str) -> StorageRefusedError:
    """The error of a run whose orders were saved at ``uri`` and are not there any more."""
    return StorageRefusedError(f"the run's orders {uri} are gone (they expire after 30 days); start a new run")


def slice_of(start: int, stop: int) -> Slice:
    """The orders from index ``start`` up to ``stop`` (exclusive), under the name that people see."""
    label = f"order {start}" if stop - start == 1 else f"orders {start}-{stop - 1}"
    return Slice(start, stop, label)


class Result(StrEnum):
    """How an order ended."""

    ACCEPTED = "accepted"
    """Lambda B took it, and stored it at ``key`` if its answer named one."""
    REJECTED = "rejected"
    """Lambda B rejected it."""
    ERRORED = "errored"
    """Anything else; ``reason`` says what."""


@dataclass(frozen=True)
class OrderOutcome:
    """One order's outcome: what a retry resumes from and what the summary is made of.

    Args:
        index: the order's position, from 0.
        key: where it is stored, if Lambda B's answer named the key.
        reason: why it was not, without anything of the order.
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


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Args:
        day: UTC day of its keys.
        outcomes: one per order, in their order.
        reason: why there are no orders, where that is not what Lambda A answered.
    """

    run_id: str
    day: date
    outcomes: tuple[OrderOutcome, ...] = ()
    reason: str | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many orders, and how many ended in which way."""
        ended = {result.value: sum(outcome.result is result for outcome in self.outcomes) for result in Result}
        return {"total": len(self.outcomes), **ended}

    def to_document(self) -> dict[str, Any]:
        """The JSON document that goes to S3."""
        return {
            "run_id": self.run_id,
            "date": self.day.isoformat(),
            **self.counts,
            "keys": [outcome.key for outcome in self.outcomes if outcome.key is not None],
            "not_accepted": [
                {"index": each.index, "order_id": each.order_id, "result": each.result.value, "reason": each.reason}
                for each in self.outcomes
                if each.failed
            ],
            "reason": self.reason,
        }

    def save(self, s3: S3Client, bucket: str) -> str:
        """Save the summary, and return its key; one without orders never replaces that of an earlier life with some."""
        key = summary_key(self.day, self.run_id)
        if self.outcomes or not had_orders(s3, bucket, self.day, self.run_id):
            put_json(s3, bucket, key, self.to_document())
        return key


def had_orders(s3: S3Client, bucket: str, day: date, run_id: str) -> bool:
    """Whether a run's saved summary has orders."""
    document = get_json(s3, bucket, summary_key(day, run_id))
    return document is not None and document["total"] > 0
