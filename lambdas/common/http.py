"""What every API does alike: reading a body strictly, its responses and ids, and the words for faults of fields."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler.api_gateway import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from lambdas.common.errors import ApiError, EmptyBodyError, NotJsonError, TooLargeError

if TYPE_CHECKING:
    from pydantic import ValidationError

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

MAX_FAULTS = 20
"""Listed in a response. A client that sends so many wrong fields repeats one mistake."""

_SHOWN_CHARACTERS = 64


def json_response(
    status: int, body: Mapping[str, Any] | str, headers: Mapping[str, str] | None = None
) -> Response[str]:
    """A response; a body that is a text is JSON already."""
    text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
    return Response(status, "application/json", text, dict(headers or {}))


def error_response(error: Exception, request_id: str) -> Response[str]:
    """The response to a request that failed: the one form that every error has.

    The message of an ApiError is for the caller, who is told nothing of any other. By ``request_id`` the caller's
    report and our log find each other.
    """
    if not isinstance(error, ApiError):
        error = ApiError()
    body = {"code": error.code, "message": str(error), "details": error.details, "request_id": request_id}
    return json_response(error.status, {"error": body}, error.headers)


def log_unexpected(logger: Logger, error: Exception) -> None:
    """Log where an error was raised that is no ApiError."""
    if not isinstance(error, ApiError):
        # Lines of source only: an error's message may quote the request.
        stack = traceback.format_tb(error.__traceback__)
        logger.error("unexpected error", error=type(error).__name__, stack=stack)


def methods_but(*allowed: str) -> list[str]:
    """The methods that a path does not take, when these are the ones that it takes."""
    return [method for method in METHODS if method not in allowed]


def request_id(event: Mapping[str, Any], context: LambdaContext) -> str:
    """API Gateway's id, which its access log and the caller have too; else the invocation's."""
    gateway: Mapping[str, Any] = event.get("requestContext") or {}
    return str(gateway.get("requestId") or context.aws_request_id)


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

    Its model's validators raise ValueErrors with messages for the caller. ``messages`` are by pydantic's type of error,
    or by ``<field>.<type>`` where the fields differ.
    """
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        field = str(found["loc"][0]) if found["loc"] else None
        kind = found["type"]
        own = messages.get(f"{field}.{kind}") or messages.get(kind)
        yield shown(field) if field else None, own or found["msg"].removeprefix("Value error, ")


def shown(name: str) -> str:
    """A field's name as a response may hold it: short, and Unicode."""
    whole = name.encode(errors="replace").decode()
    return whole if len(whole) <= _SHOWN_CHARACTERS else f"{whole[:_SHOWN_CHARACTERS]}…"


_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class AmbiguousObject:
    """A JSON object that gives a name twice: only the sender knows which of the values was meant."""

    name: str


def body_text(event: Mapping[str, Any], *, max_bytes: int) -> str:
    """The body of an API Gateway event, whose ``body`` is a text, base64 when ``isBase64Encoded``, or None.

    A byte order mark in front is dropped, as RFC 8259 allows: shells and editors of Windows write one.

    Raises:
        EmptyBodyError: there is nothing in it but white space.
        TooLargeError: it has more than ``max_bytes`` in UTF-8.
        NotJsonError: it is not UTF-8.
    """
    body: str = event.get("body") or ""
    try:
        data = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
        text = data.decode()
    except ValueError:
        raise NotJsonError("the body is not UTF-8") from None
    if len(data) > max_bytes:
        raise TooLargeError(f"the body has {len(data)} bytes; it may have {max_bytes}")
    text = text.removeprefix(_BYTE_ORDER_MARK)
    if not text.strip():
        raise EmptyBodyError
    return text


def parse_json(text: str, *, number: Callable[[str], object]) -> Any:
    """The JSON document in ``text``. Objects that give a name twice become an AmbiguousObject.

    ``number`` makes of a number, as it is written, what the document holds in its place.

    Raises:
        NotJsonError: it is not JSON by RFC 8259 (``NaN`` is not), or nested deeper than Python can read.
    """
    decoder = json.JSONDecoder(
        object_pairs_hook=_object, parse_float=number, parse_int=number, parse_constant=_not_a_number
    )
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        # The decoder's messages are constants; they quote nothing of the document.
        where = f"line {error.lineno}, column {error.colno}"
        raise NotJsonError(f"the body is not JSON: {error.msg.strip()} ({where})") from None
    except RecursionError:
        raise NotJsonError("the body is not JSON: it is nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | AmbiguousObject:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    unseen = set(members)
    for name, _ in pairs:
        if name not in unseen:
            break
        unseen.remove(name)
    return AmbiguousObject(name)


def _not_a_number(name: str) -> NoReturn:
    raise NotJsonError(f"the body is not JSON: {name} is no number")
