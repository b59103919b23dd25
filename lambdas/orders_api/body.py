"""The body of `POST /orders`: how large it may be, and its numbers, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from lambdas.common import body

MAX_BODY_BYTES = 4 * 1024 * 1024
r"""500 records of the longest texts take 3.3 MB when a client writes every character as \uXXXX. Lambda refuses events
of more than 6 MB, in which each quote, backslash and line break of the body takes another byte. Between the two lies
the densest useful body."""


def text_of(event: Mapping[str, Any]) -> str:
    """The body of an API Gateway event; for errors, see :func:`lambdas.common.body.text_of`."""
    return body.text_of(event, max_bytes=MAX_BODY_BYTES)


def parse(text: str) -> Any:
    """The JSON document in ``text``; for errors, see :func:`lambdas.common.body.parse`.

    Every number becomes a Decimal, so that it stays exactly what was written; one whose exponent even Decimal cannot
    hold becomes infinity, but for zero.
    """
    return body.parse(text, number=_number)


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        mantissa, _, _ = text.lower().partition("e")
        return Decimal("Infinity") if mantissa.strip("-0.") else Decimal(0)
