"""A JSON value as text again: every number as it was written, without the white space."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lambdas.common.body import AmbiguousObject

MAX_DEPTH = 64
"""Levels of objects and arrays. Receivers read what is delivered with parsers of their own, some of which recurse."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written: no type of Python's keeps the digits of every one."""

    text: str


_string = json.JSONEncoder(ensure_ascii=False).encode


def compact(value: Any) -> str:
    """The text of a value that was read with numbers as :class:`Number`.

    Raises:
        ValueError: it cannot be passed on; the message says why and quotes nothing.
    """
    text = _text(value, 0)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be Unicode: a surrogate stands alone in it") from None
    return text


def _text(value: Any, depth: int) -> str:
    if isinstance(value, Number):
        return value.text
    if isinstance(value, AmbiguousObject):
        raise ValueError("an object in it gives the same name twice")  # noqa: TRY004 - the caller's mistake, not ours
    if not isinstance(value, dict | list):
        return _string(value)
    if depth == MAX_DEPTH:
        raise ValueError(f"must not be nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list):
        return f"[{','.join(_text(item, depth + 1) for item in value)}]"
    return f"{{{','.join(f'{_string(name)}:{_text(item, depth + 1)}' for name, item in value.items())}}}"
