"""The one place that turns errors into HTTP: the status and the form of every answer that tells of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lambdas.common.errors import (
    ApiError,
    EmptyBodyError,
    MethodNotAllowedError,
    NotFoundError,
    NotJsonError,
    TooLargeError,
    UnavailableError,
)

RETRY_AFTER_SECONDS = 5
"""After a request for which a table was too slow: by then it has grown with the load."""

StatusAndCode = Mapping[type[ApiError], tuple[int, str]]

STATUS_AND_CODE: StatusAndCode = {
    EmptyBodyError: (400, "empty_body"),
    NotJsonError: (400, "not_json"),
    NotFoundError: (404, "not_found"),
    MethodNotAllowedError: (405, "method_not_allowed"),
    TooLargeError: (413, "too_large"),
}
"""Of the errors that all APIs have; each adds its own."""

INTERNAL_ERROR = (500, "internal_error")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; ``body`` is written as JSON."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = MappingProxyType({})


def error_answer(error: Exception, request_id: str, known: StatusAndCode) -> Answer:
    """The answer to a request that failed.

    Args:
        error: an ApiError, whose message is for the caller; of any other, nothing is told.
        request_id: by which the caller's report and our log find each other.
        known: status and code of each ApiError.
    """
    if not isinstance(error, ApiError):
        status, code = INTERNAL_ERROR
        return Answer(status, error_body(code, "the request failed; sending it again does no harm", [], request_id))
    status, code = known[type(error)]
    headers: dict[str, str] = {}
    if isinstance(error, MethodNotAllowedError):
        headers["Allow"] = ", ".join(error.allowed)
    elif isinstance(error, UnavailableError) and error.worth_repeating:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return Answer(status, error_body(code, str(error), error.details, request_id), headers)


def error_body(code: str, message: str, details: Any, request_id: str) -> dict[str, Any]:
    """The form that every error has."""
    return {"error": {"code": code, "message": message, "details": details, "request_id": request_id}}
