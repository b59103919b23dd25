"""What became of each order: what a retry resumes from and what the summary is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


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
