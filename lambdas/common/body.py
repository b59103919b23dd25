"""A request's body: its text, and the JSON document in it, strictly read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from lambdas.common.errors import EmptyBodyError, NotJsonError, TooLargeError

_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class AmbiguousObject:
    """A JSON object that gives a name twice: only the sender knows which of the values was meant."""

    name: str


def text_of(event: Mapping[str, Any], *, max_bytes: int) -> str:
    """The body of an API Gateway event.

    A byte order mark in front is dropped, as RFC 8259 allows: shells and editors of Windows write one.

    Args:
        event: its ``body`` is a text, base64 when ``isBase64Encoded``, or None.
        max_bytes: the most that it may have, in UTF-8.

    Raises:
        EmptyBodyError: there is nothing in it but white space.
        TooLargeError: it has more than ``max_bytes``.
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
        raise EmptyBodyError("the request has no body")
    return text


def parse(text: str, *, number: Callable[[str], object]) -> Any:
    """The JSON document in ``text``. Objects that give a name twice become an AmbiguousObject.

    Args:
        text: of the whole document.
        number: makes of a number, as it is written, what the document holds in its place.

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
