"""The auction's two functions as the pipeline uses them: Lambda A polled for results, Lambda B given an order."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from include.auction.models import OrderOutcome, Orders, Result, had_orders, orders_gone
from include.clients.lambda_function import HANDLER_ERROR, FunctionClient
from include.clients.s3 import split_uri
from include.errors import (
    Backoff,
    FunctionFailedError,
    FunctionThrottledError,
    InvalidAnswerError,
    PipelineError,
    TransientError,
)
from include.text import printable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


log = logging.getLogger(__name__)


def parse_answer(answer: object) -> list[Any] | None:
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


REJECTED = "OrderRejectedError"
"""Error of Lambda B for an order that it rejects."""

INVALID = "InvalidOrderError"
"""Error of Lambda B for an order that it cannot judge; given it again it would say the same."""

ANY = "*"
"""In the setting ``rejection_errors``: any error that the function's own code raises is a rejection."""

_OF_THE_PLATFORM = ("Runtime.", "Sandbox.", "Function.", "Extension.", "Lambda.", "Init<", "Runtime<")
"""Types of the errors that Lambda reports in a function's place: time-outs, crashes, code that cannot be loaded."""

_OUT_OF_MEMORY = frozenset({"MemoryError", "NoMemoryError", "OutOfMemoryError", "OutOfMemoryException"})

_CLASS = re.compile(r"(\w*)\W*\Z")
"""What an error's type names in the end: Java and Rust give packages, Ruby gives ``Function<OrderRejectedError>``."""

MAX_THROTTLES = 6
"""Times that one call may be throttled before it is left to the task's retry: some seconds in all."""

_ROOM = Backoff(first=0.2, longest=2.0)

_MAX_KEY_BYTES = 1024
"""S3 has no longer keys."""


@dataclass(frozen=True)
class OrderFunction:
    """Lambda B (docs/FUNCTIONS.md), by its name or ARN.

    ``rejections`` gives the setting ``rejection_errors``; it is called in several threads, only if the function fails.
    """

    functions: FunctionClient
    name: str
    rejections: Callable[[], Collection[str]]
    sleep: Callable[[float], object] = time.sleep

    def process(
        self, orders: Orders, index: int, *, has_time: Callable[[], bool] = lambda: True
    ) -> OrderOutcome | None:
        """Give one order to the function, while ``has_time`` says that an order may begin; never raises.

        It runs once at most: only a throttled call is repeated. Returns None if there was no time.
        """
        if not has_time():
            return None
        order_id, payload = orders.id_of(index), orders.payload(index)
        if payload is None:
            kind = type(orders.items[index]).__name__
            reason = f"{INVALID}: the order is not an object but {kind}; Lambda B was not invoked"
            return OrderOutcome(index, order_id, Result.ERRORED, reason=reason)
        try:
            return self._invoke(index, order_id, payload, has_time)
        except PipelineError as error:
            reason, retryable = f"{type(error).__name__}: {error}", isinstance(error, TransientError)
            return OrderOutcome(index, order_id, Result.ERRORED, reason=reason, retryable=retryable)
        except Exception as error:
            log.exception("unexpected failure of order %d", index)
            reason = f"unexpected {type(error).__name__}, see the log"
            return OrderOutcome(index, order_id, Result.ERRORED, reason=reason, retryable=True)

    def _invoke(self, index: int, order_id: str, payload: dict[str, Any], has_time: Callable[[], bool]) -> OrderOutcome:
        try:
            key = _key_in(self._answer(payload, has_time))
            return OrderOutcome(index, order_id, Result.ACCEPTED, key=key)
        except InvalidAnswerError:
            # There is an answer and no function error, so the order is accepted, though nothing of it can be read.
            return OrderOutcome(index, order_id, Result.ACCEPTED)
        except FunctionFailedError as error:
            result = Result.REJECTED if self._rejects(error.error_type) else Result.ERRORED
            retryable = result is Result.ERRORED and _class_of(error.error_type) != INVALID
            return OrderOutcome(index, order_id, result, reason=printable(str(error)), retryable=retryable)

    def _answer(self, payload: dict[str, Any], has_time: Callable[[], bool]) -> Any:
        # A group's orders would all be refused within seconds, where the function has room for a few at once.
        for throttles in range(1, MAX_THROTTLES):
            try:
                return self.functions.invoke(self.name, payload)
            except FunctionThrottledError:
                self.sleep(_ROOM.seconds(throttles))
                if not has_time():
                    raise
        return self.functions.invoke(self.name, payload)

    def _rejects(self, error_type: str) -> bool:
        """Whether an error of this type is the function's way to reject an order."""
        name = _class_of(error_type)
        of_the_platform = error_type.startswith(_OF_THE_PLATFORM) and error_type != HANDLER_ERROR
        # An error without a type is a time-out of an older runtime.
        if not error_type or of_the_platform or name in _OUT_OF_MEMORY:
            return False
        return name == REJECTED or not {ANY, error_type, name}.isdisjoint(self.rejections())


def _class_of(error_type: str) -> str:
    found = _CLASS.search(error_type)
    return found[1] if found else ""


def _key_in(answer: object) -> str | None:
    """The key that an answer names: its field ``key``, or that of its ``body``, an object or JSON text; else None."""
    if isinstance(answer, dict) and "key" not in answer:
        answer = answer.get("body")
        if isinstance(answer, str):
            try:
                answer = json.loads(answer)
            except (ValueError, RecursionError):
                return None
    key = answer.get("key") if isinstance(answer, dict) else None
    # Airflow's database, where the summary goes, refuses some of the characters that S3 takes.
    usable = isinstance(key, str) and key and printable(key) == key and len(key.encode()) <= _MAX_KEY_BYTES
    return key if usable else None


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
        function_name: Lambda A.
        uri: ``s3://bucket/key`` of the run's orders.
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
        if orders is None and had_orders(self.s3, split_uri(self.uri)[0], self.day, self.run_id):
            raise orders_gone(self.uri)
        return orders

    @property
    def holds_orders(self) -> bool:
        """Whether Lambda A gave orders; until they are saved, they exist only here."""
        return self._given is not None

    def poll(self) -> Orders | None:
        """Invoke Lambda A once; save and return the orders, or None when there are no results yet.

        Orders that could not be saved are saved by the next poll, which then does not invoke Lambda A: it may not give
        them twice.

        Raises:
            TransientError: throttled, failed, no answer, or S3 failed; the next poll may work.
            InvalidAnswerError: the answer is malformed.
            FunctionRefusedError: there is no such function, or no permission.
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
