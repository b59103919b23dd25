"""The one place that turns errors into HTTP: the status and the form of every answer that tells of one.

Between API Gateway and an API's code: ids of requests, answers as Powertools takes them.

What is wrong with the fields of an object that a caller sent, in the words of the API.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler.api_gateway import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from lambdas.common.errors import (
    ApiError,
    EmptyBodyError,
    MethodNotAllowedError,
    NotFoundError,
    NotJsonError,
    TooLargeError,
    UnavailableError,
)

if TYPE_CHECKING:
    from pydantic import ValidationError

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


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def methods_but(*allowed: str) -> list[str]:
    """The methods that a path does not take, when these are the ones that it takes."""
    return [method for method in METHODS if method not in allowed]


def response(answer: Answer) -> Response[str]:
    """The answer in the resolver's terms."""
    return json_response(answer.status, json.dumps(answer.body, separators=(",", ":")), answer.headers)


def json_response(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response[str]:
    """The same for a body that is JSON text already."""
    return Response(status, "application/json", text, dict(headers or {}))


def request_id(event: Mapping[str, Any], context: LambdaContext) -> str:
    """API Gateway's id, which its access log and the caller have too; else the invocation's."""
    gateway: Mapping[str, Any] = event.get("requestContext") or {}
    return str(gateway.get("requestId") or context.aws_request_id)


def log_unexpected(logger: Logger, error: Exception) -> None:
    """Tell the log where an error came from that is no ApiError."""
    if not isinstance(error, ApiError):
        # Lines of source only: an error's message may quote the request.
        stack = traceback.format_tb(error.__traceback__)
        logger.error("unexpected error", error=type(error).__name__, stack=stack)


MAX_FAULTS = 20
"""Listed in an answer. Who sends so many wrong fields repeats one mistake."""

_SHOWN_CHARACTERS = 64


def sorted_out(item: Any, fields: Iterable[str]) -> tuple[Any, list[str]]:
    """The item without the fields that it should not have, and the names of those.

    A body has room for half a million of them, and pydantic would make an error of each.
    """
    if not isinstance(item, dict):
        return item, []
    known = {name: item[name] for name in fields if name in item}
    return known, [name for name in item if name not in known]


def field_faults(error: ValidationError, messages: Mapping[str, str]) -> Iterator[tuple[str | None, str]]:
    """Field and message of each thing that pydantic found.

    Args:
        error: of a model whose validators raise ValueErrors with messages for the caller.
        messages: by pydantic's type of error, or by ``<field>.<type>`` where the fields differ.
    """
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        field = str(found["loc"][0]) if found["loc"] else None
        kind = found["type"]
        own = messages.get(f"{field}.{kind}") or messages.get(kind)
        yield shown(field) if field else None, own or found["msg"].removeprefix("Value error, ")


def shown(name: str) -> str:
    """A field's name as an answer may hold it: short, and Unicode."""
    whole = name.encode(errors="replace").decode()
    return whole if len(whole) <= _SHOWN_CHARACTERS else f"{whole[:_SHOWN_CHARACTERS]}…"
