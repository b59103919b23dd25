"""One order: stored once when it was accepted, refused with a reason otherwise (spec: auction, Lambda B)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from lambdas.common import aws

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ORDER_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_ORDER_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class OrderError(Exception):
    """An order that is not stored, and that no second call would store.

    The message quotes nothing of the input but an order id that is well-formed: the runtime logs it. It begins with the
    name of the class: who calls a function through something that hands on nothing but the message (the local emulator
    does) still learns which error it was.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"{type(self).__name__}: {reason}")


class OrderRejectedError(OrderError):
    """The auction rejected the order; the message names it."""


class InvalidOrderError(OrderError):
    """The input is no order; the message says what is wrong with it."""


@dataclass(frozen=True)
class Order:
    """One accepted order.

    Args:
        id: goes into the key; the same id is the same order, however often it comes.
        body: the JSON document to keep: the input, with ``order_id`` and ``order_date`` in it.
    """

    id: str
    date: date
    body: bytes

    @property
    def key(self) -> str:
        """The order's key in the bucket of order results."""
        day = self.date.isoformat().replace("-", "/")
        return f"orders/{day}/order_{self.id}.json"


def accepted_order(event: object, *, request_id: str, today: date) -> Order:
    """Read the input of one invocation.

    Args:
        event: the order's fields: ``status``, or ``order`` from an older producer; ``order_id``, ``order_date``
            (``YYYY-MM-DD``) and whatever else there is.
        request_id: the invocation's id, for an order that was sent without an id (by hand).
        today: UTC date, for an order without a date.

    Raises:
        OrderRejectedError: it was rejected.
        InvalidOrderError: its status is missing or unknown, its id or date is malformed, or it is no JSON object.
    """
    if not isinstance(event, Mapping):
        raise InvalidOrderError("the input is no JSON object")
    order_id = _order_id(event.get("order_id", request_id))
    day = _order_date(event.get("order_date", today.isoformat()))
    name = "status" if "status" in event else "order"
    if name not in event:
        raise InvalidOrderError(f"order {order_id} has no status")
    if event[name] == "rejected":
        raise OrderRejectedError(f"order {order_id} was rejected")
    if event[name] != "accepted":
        raise InvalidOrderError(f"order {order_id} has an unknown status; known are accepted and rejected")
    return Order(order_id, day, _body({**event, "order_id": order_id, "order_date": day.isoformat()}, order_id))


def _order_id(value: object) -> str:
    if not isinstance(value, str) or not _ORDER_ID.fullmatch(value):
        raise InvalidOrderError("order_id is malformed; it must be 1 to 128 characters of A-Z a-z 0-9 . _ -")
    return value


def _order_date(value: object) -> date:
    try:
        if isinstance(value, str) and _ORDER_DATE.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise InvalidOrderError("order_date is malformed; it must be a date written YYYY-MM-DD")


def _body(document: Mapping[str, Any], order_id: str) -> bytes:
    try:
        return json.dumps(document, allow_nan=False).encode()
    except ValueError:
        # Python reads 1e999 as infinity, which is not JSON: the object could not be read again.
        raise InvalidOrderError(f"order {order_id} has a number that is out of range") from None
    except RecursionError:
        raise InvalidOrderError(f"order {order_id} is nested too deep") from None


WRITES = 3
"""Times that an order is written while other calls are busy with it."""


def s3_client() -> S3Client:
    """A client with which WRITES writes, each tried twice, end within the function's 30 seconds."""
    return cast("S3Client", aws.client("s3", connect_seconds=1, read_seconds=3, attempts=2))


class OrderStore:
    """Writes orders to one bucket."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def save(self, order: Order) -> bool:
        """Write an order, unless it is there; False when it was. Raises ClientError if S3 refused.

        It is there when an earlier call was killed between its write and its answer, or when the client sent the
        request again because S3's answer got lost: either way it is stored, which is what the caller wants to know.
        """
        for _ in range(WRITES - 1):
            try:
                return self._put(order)
            except ClientError as error:
                # Another call is writing the same order at this moment and may yet fail: S3 asks to try again.
                if aws.error_code(error) != "ConditionalRequestConflict":
                    raise
        return self._put(order)

    def _put(self, order: Order) -> bool:
        try:
            self._s3.put_object(
                Bucket=self._bucket,
                Key=order.key,
                Body=order.body,
                ContentType="application/json",
                ServerSideEncryption="AES256",
                IfNoneMatch="*",
            )
        except ClientError as error:
            if aws.error_code(error) == "PreconditionFailed":
                return False
            raise
        return True
