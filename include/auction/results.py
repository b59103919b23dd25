"""Polling Lambda A for results: how often, and what a poll does with what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from include.auction.functions import parse_answer
from include.auction.models import Orders, had_orders, orders_gone
from include.backoff import Backoff
from include.clients.s3 import split_place
from include.errors import InvalidAnswerError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.clients.lambda_function import FunctionClient

FIRST_PAUSE_SECONDS = 2.0
MAX_PAUSE_SECONDS = 3.0
_PAUSES = Backoff(first=FIRST_PAUSE_SECONDS, longest=MAX_PAUSE_SECONDS, growth=1.5, jitter=0)


def pause_before(poll: int) -> float:
    """Seconds to wait before poll number ``poll``, which follows an earlier one (so from 2)."""
    return _PAUSES.seconds(poll - 1)


@dataclass
class ResultsPoller:
    """Polls Lambda A for the orders of one run, and saves them.

    Args:
        s3: a boto3 client.
        functions: invokes Lambda A.
        function_name: Lambda A.
        uri: ``s3://bucket/key`` of the run's orders.
        run_id: the run's id.
        day: UTC day under which they are stored.
        order_function: Lambda B, which is saved with the orders.
    """

    s3: S3Client
    functions: FunctionClient
    function_name: str
    uri: str
    run_id: str
    day: date
    order_function: str | None = None
    _given: list[Any] | None = field(default=None, init=False)

    def find(self) -> Orders | None:
        """The orders, if they are saved: by an earlier attempt of this task, or by a poller that was cut off.

        Raises:
            StorageRefusedError: S3 refused; or the run had orders and they are gone: new ones would have their ids.
        """
        orders = Orders.find(self.s3, self.uri)
        if orders is None and had_orders(self.s3, split_place(self.uri)[0], self.day, self.run_id):
            raise orders_gone(self.uri)
        return orders

    @property
    def holds_orders(self) -> bool:
        """Whether Lambda A gave orders; until they are saved, they exist only here."""
        return self._given is not None

    def poll(self) -> Orders | None:
        """Invoke Lambda A once; save the orders if there are any.

        Orders that could not be saved are saved by the next poll, which then does not invoke Lambda A: it may not give
        them twice.

        Returns:
            the orders, or None when there are no results yet.

        Raises:
            TransientError: throttled, failed, no answer, or S3 failed; the next poll may work.
            InvalidAnswerError: the answer is malformed.
            FunctionRefusedError: there is no such function, or no permission.
            StorageRefusedError: S3 refused.
        """
        if self._given is None:
            answer = self.functions.invoke(self.function_name, {})
            try:
                self._given = parse_answer(answer)
            except InvalidAnswerError as error:
                raise InvalidAnswerError(f"function {self.function_name}: {error}") from error
        if self._given is None:
            return None
        return Orders(self.run_id, self.day, tuple(self._given), self.order_function).save(self.s3, self.uri)
