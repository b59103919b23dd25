"""The one place that turns errors into HTTP: status, code and body of every answer that is not a 201."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from lambdas.orders_api.errors import (
    EmptyBodyError,
    InvalidRecordsError,
    MethodNotAllowedError,
    NotFoundError,
    NotJsonError,
    NotStoredError,
    OrdersError,
    TooLargeError,
)

RETRY_AFTER_SECONDS = 5
"""After a request for which the table was too slow: by then it has grown with the load."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; ``body`` is written as JSON."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = MappingProxyType({})


STATUS_AND_CODE: Mapping[type[OrdersError], tuple[int, str]] = {
    EmptyBodyError: (400, "empty_body"),
    NotJsonError: (400, "not_json"),
    NotFoundError: (404, "not_found"),
    MethodNotAllowedError: (405, "method_not_allowed"),
    TooLargeError: (413, "too_large"),
    InvalidRecordsError: (422, "invalid_records"),
    NotStoredError: (503, "unavailable"),
}
PARTIALLY_STORED = "partially_stored"
"""The code of a NotStoredError when some records were stored."""

INTERNAL_ERROR = (500, "internal_error")


def error_answer(error: Exception, request_id: str) -> Answer:
    """The answer to a request that failed.

    Args:
        error: an OrdersError, whose message is for the caller; of any other, nothing is told.
        request_id: by which the caller's report and our log find each other.
    """
    if not isinstance(error, OrdersError):
        status, code = INTERNAL_ERROR
        message = "the request failed; sending it again does no harm"
        return Answer(status, _error_body(code, message, [], request_id))
    status, code = STATUS_AND_CODE[type(error)]
    details: Any = []
    headers: dict[str, str] = {}
    if isinstance(error, InvalidRecordsError):
        details = [asdict(fault) for fault in error.faults]
    elif isinstance(error, MethodNotAllowedError):
        headers["Allow"] = "POST"
    elif isinstance(error, NotStoredError):
        code = PARTIALLY_STORED if error.stored else code
        details = {"stored": error.stored, "not_stored": list(error.not_stored)}
        if error.worth_repeating:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return Answer(status, _error_body(code, str(error), details, request_id), headers)


def _error_body(code: str, message: str, details: Any, request_id: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": details, "request_id": request_id}}
