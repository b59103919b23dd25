"""The auction's two functions as the pipeline understands them: Lambda A's results, Lambda B's answer to an order."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.auction.models import OrderOutcome, Orders, Result
from include.errors import FunctionFailedError, InvalidAnswerError, PipelineError, TransientError

if TYPE_CHECKING:
    from include.clients.lambda_function import FunctionClient

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

_MAX_KEY_BYTES = 1024
"""S3 has no longer keys."""


@dataclass(frozen=True)
class OrderFunction:
    """Lambda B.

    Args:
        functions: invokes it.
        name: its name or ARN.
    """

    functions: FunctionClient
    name: str

    def process(self, orders: Orders, index: int) -> OrderOutcome:
        """Give one order to the function, once; never raises."""
        order_id, payload = orders.id_of(index), orders.payload(index)
        if payload is None:
            kind = type(orders.items[index]).__name__
            reason = f"{INVALID}: the order is not an object but {kind}; Lambda B was not invoked"
            return OrderOutcome(index, order_id, Result.ERRORED, reason=reason)
        try:
            key = _key_in(self.functions.invoke(self.name, payload))
            return OrderOutcome(index, order_id, Result.ACCEPTED, key=key)
        except FunctionFailedError as error:
            result = Result.REJECTED if error.error_type == REJECTED else Result.ERRORED
            retryable = error.error_type not in (REJECTED, INVALID)
            return OrderOutcome(index, order_id, result, reason=str(error), retryable=retryable)
        except PipelineError as error:
            reason, retryable = f"{type(error).__name__}: {error}", isinstance(error, TransientError)
            return OrderOutcome(index, order_id, Result.ERRORED, reason=reason, retryable=retryable)
        except Exception as error:
            log.exception("unexpected failure of order %d", index)
            reason = f"unexpected {type(error).__name__}, see the log"
            return OrderOutcome(index, order_id, Result.ERRORED, reason=reason, retryable=True)


def _key_in(answer: object) -> str:
    """The key under which Lambda B stored an order: its answer, or the field ``key`` of it.

    Raises:
        InvalidAnswerError: there is none, or it can be no key of S3.
    """
    key = answer.get("key") if isinstance(answer, dict) else answer
    if not isinstance(key, str) or not key:
        raise InvalidAnswerError("the answer to the order names no key under which it is stored")
    try:
        if len(key.encode()) <= _MAX_KEY_BYTES:
            return key
    except UnicodeEncodeError:
        # Half a surrogate pair; the error would quote the key.
        pass
    raise InvalidAnswerError(f"the answer to the order names a key that is no UTF-8 or over {_MAX_KEY_BYTES:,} bytes")
