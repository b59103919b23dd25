"""Asking Lambda A for results: how often, for how long, and what each look found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from include.auction.models import OrderBook, find_book, had_orders, keep_book, orders_gone, read_answer
from include.clients.s3 import split_place
from include.errors import InvalidAnswerError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.clients.lambda_function import FunctionClient

FIRST_PAUSE_SECONDS = 2.0
MAX_PAUSE_SECONDS = 15.0
_GROWTH = 1.5


def pause_before(poll: int) -> float:
    """Seconds to wait before poll number ``poll``, which follows an earlier one (so from 2)."""
    # The exponent is bounded because a float is.
    return float(min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * _GROWTH ** min(poll - 2, 50)))


@dataclass(frozen=True)
class RunPlace:
    """A run and where its orders belong.

    Args:
        orders: ``s3://bucket/key`` of its orders.
        run_id: the run's id.
        day: UTC day under which they are stored.
    """

    orders: str
    run_id: str
    day: date


class ResultsWatch:
    """Asks for the orders of one run until they are there, then keeps them.

    Args:
        s3: a boto3 client.
        functions: invokes Lambda A.
        function_name: Lambda A.
        run: where its orders belong.
    """

    def __init__(self, s3: S3Client, functions: FunctionClient, function_name: str, run: RunPlace) -> None:
        self._s3 = s3
        self._functions = functions
        self._function_name = function_name
        self._run = run
        self._given: list[Any] | None = None

    def find(self) -> OrderBook | None:
        """The orders, if somebody has kept them: an earlier attempt of this task, or a watch that was cut off.

        Raises:
            StorageUnavailableError: a retry may work.
            StorageRefusedError: S3 refused; or the run had orders and they are gone: new ones would have their ids.
        """
        run = self._run
        book = find_book(self._s3, run.orders)
        if book is None and had_orders(self._s3, split_place(run.orders)[0], run.day, run.run_id):
            raise orders_gone(run.orders)
        return book

    @property
    def holds_orders(self) -> bool:
        """Whether Lambda A gave orders; until they are kept, they are nowhere but here."""
        return self._given is not None

    def look(self) -> OrderBook | None:
        """Invoke Lambda A once; keep the orders if there are any.

        Orders that could not be kept are kept by the next look, which then asks nobody: Lambda A may not give them
        twice.

        Returns:
            the orders, or None when there are no results yet.

        Raises:
            TransientError: throttled, failed, no answer, or S3 failed; the next look may work.
            InvalidAnswerError: the answer is malformed.
            FunctionRefusedError: there is no such function, or no permission.
            StorageRefusedError: S3 refused.
        """
        if self._given is None:
            self._given = self._ask()
        if self._given is None:
            return None
        run = self._run
        return keep_book(self._s3, run.orders, run_id=run.run_id, day=run.day, orders=self._given)

    def _ask(self) -> list[Any] | None:
        answer = self._functions.invoke(self._function_name, {})
        try:
            return read_answer(answer)
        except InvalidAnswerError as error:
            raise InvalidAnswerError(f"function {self._function_name}: {error}") from error
