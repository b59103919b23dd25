"""A DynamoDB table in memory that takes batches, with the limits of the real one and faults in a given order."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from botocore.exceptions import ClientError

STATUS = {
    "AccessDeniedException": 400,
    "InternalServerError": 500,
    "ProvisionedThroughputExceededException": 400,
    "RequestLimitExceeded": 400,
    "ResourceNotFoundException": 400,
    "ServiceUnavailable": 503,
    "ThrottlingException": 400,
    "ValidationException": 400,
}
MAX_BATCH = 25
MAX_DIGITS = 38


def dynamodb_error(code: str) -> ClientError:
    """The error that botocore raises when DynamoDB answers ``code``."""
    return ClientError(
        {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": STATUS[code]}},
        "BatchWriteItem",
    )


@dataclass(frozen=True)
class Leave:
    """The table leaves the last so many requests of a batch unprocessed."""

    requests: int


@dataclass(frozen=True)
class Lose:
    """The table stores the batch, and the answer never arrives."""

    error: Exception


Fault = Exception | Leave | Lose | None
"""What happens to one call; None = nothing."""


class FakeDynamoDB:
    """Quacks like a boto3 DynamoDB client with one table whose key is ``record_id``.

    Args:
        table: its name.
        faults: one for each call, from the first; later calls have none.
    """

    def __init__(self, table: str = "orders", faults: Iterable[Fault] = ()) -> None:
        self.table = table
        self.items: dict[str, dict[str, Any]] = {}
        self.batches: list[int] = []
        self._faults = iter(faults)
        self._lock = threading.Lock()

    def batch_write_item(self, *, RequestItems: dict[str, list[Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        with self._lock:
            fault = next(self._faults, None)
            ((table, requests),) = RequestItems.items()
            self.batches.append(len(requests))
            if isinstance(fault, Exception):
                raise fault
            if table != self.table:
                raise dynamodb_error("ResourceNotFoundException")
            taken = len(requests) - (fault.requests if isinstance(fault, Leave) else 0)
            self._take([request["PutRequest"]["Item"] for request in requests][: max(taken, 0)], requests)
            if isinstance(fault, Lose):
                raise fault.error
            rest = requests[max(taken, 0) :]
            return {"UnprocessedItems": {table: rest} if rest else {}}

    def _take(self, items: list[dict[str, Any]], requests: list[Any]) -> None:
        ids = [request["PutRequest"]["Item"]["record_id"]["S"] for request in requests]
        if not 1 <= len(ids) <= MAX_BATCH or len(set(ids)) < len(ids):
            raise dynamodb_error("ValidationException")
        for item in items:
            number = Decimal(item["parameter_2"]["N"])
            if len(number.as_tuple().digits) > MAX_DIGITS or (number and not -130 <= number.adjusted() <= 125):
                raise dynamodb_error("ValidationException")
            self.items[item["record_id"]["S"]] = item
