"""The request's body: its text, and the JSON document in it, strictly read."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from lambdas.orders_api.errors import EmptyBodyError, NotJsonError, TooLargeError

MAX_BODY_BYTES = 4 * 1024 * 1024
r"""500 records of the longest texts take 3.3 MB when a client writes every character as \uXXXX. Lambda refuses events
of more than 6 MB, in which each quote, backslash and line break of the body takes another byte. Between the two lies
the densest useful body."""

_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class AmbiguousObject:
    """A JSON object that gives a name twice: which of the values was meant, only the sender knows."""

    name: str


def text_of(event: Mapping[str, Any]) -> str:
    """The body of an API Gateway event.

    A byte order mark in front is dropped, as RFC 8259 allows: shells and editors of Windows write one.

    Args:
        event: its ``body`` is a text, base64 when ``isBase64Encoded``, or None.

    Raises:
        EmptyBodyError: there is nothing in it but white space.
        TooLargeError: it has more than MAX_BODY_BYTES.
        NotJsonError: it is not UTF-8.
    """
    body: str = event.get("body") or ""
    try:
        data = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
        text = data.decode()
    except ValueError:
        raise NotJsonError("the body is not UTF-8") from None
    if len(data) > MAX_BODY_BYTES:
        raise TooLargeError(f"the body has {len(data)} bytes; it may have {MAX_BODY_BYTES}")
    text = text.removeprefix(_BYTE_ORDER_MARK)
    if not text.strip():
        raise EmptyBodyError("the request has no body")
    return text


def parse(text: str) -> Any:
    """The JSON document in ``text``.

    Every number becomes a Decimal, so that it stays exactly what was written; one whose exponent even Decimal cannot
    hold becomes infinity, but for zero. Objects that give a name twice become an AmbiguousObject.

    Raises:
        NotJsonError: it is not JSON by RFC 8259 (``NaN`` is not), or nested deeper than anything that could be meant.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        # The decoder's messages are constants; they quote nothing of the document.
        where = f"line {error.lineno}, column {error.colno}"
        raise NotJsonError(f"the body is not JSON: {error.msg.strip()} ({where})") from None
    except RecursionError:
        raise NotJsonError("the body is not JSON that anybody could mean: it is nested too deep") from None


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


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        mantissa, _, _ = text.lower().partition("e")
        return Decimal("Infinity") if mantissa.strip("-0.") else Decimal(0)


def _not_a_number(name: str) -> NoReturn:
    raise NotJsonError(f"the body is not JSON: {name} is no number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_number, parse_int=_number, parse_constant=_not_a_number
)
