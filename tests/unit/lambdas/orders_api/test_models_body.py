from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.common.errors import ApiError, TooLargeError
from lambdas.orders_api.models import MAX_BODY_BYTES, parse, text_of


def in_base64(data: bytes) -> dict[str, Any]:
    return {"body": base64.b64encode(data).decode(), "isBase64Encoded": True}


def test_largest_body_is_taken_and_one_byte_more_is_not() -> None:
    largest = "[" + " " * (MAX_BODY_BYTES - 2) + "]"
    assert text_of({"body": largest}) == largest
    assert text_of(in_base64(largest.encode())) == largest
    for event in ({"body": largest + " "}, in_base64(largest.encode() + b" "), {"body": " " * 10_000_000}):
        with pytest.raises(TooLargeError, match=str(MAX_BODY_BYTES)):
            text_of(event)


def test_largest_request_that_a_client_can_mean_fits_in() -> None:
    record = {"record_id": "x" * 128, "parameter_1": "東" * 1024, "parameter_2": -float("1" * 17 + "e-100")}
    assert len(text_of({"body": json.dumps([record] * 500, indent=2)})) > 3_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.1", Decimal("2.1")),
        ("0.1000", Decimal("0.1000")),
        ("12345678901234567890.12345678901234567", Decimal("12345678901234567890.12345678901234567")),
        ("9" * 5000, Decimal("9" * 5000)),
        ("1e400", Decimal("1e400")),
        ("1e999999999999999999999", Decimal("Infinity")),
        ("-0", Decimal("-0")),
        ("0e999999999999999999999", Decimal(0)),
        ("-0.000E+999999999999999999999", Decimal(0)),
        ("0e-999999999999999999999", Decimal(0)),
        ("0.001e999999999999999999999", Decimal("Infinity")),
    ],
    ids=lambda value: str(value)[:30],
)
def test_numbers_stay_what_they_were(text: str, expected: Decimal) -> None:
    number = parse(text)
    assert isinstance(number, Decimal)
    assert number.as_tuple() == expected.as_tuple()


FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)
TEXTS = st.text() | st.binary().map(lambda data: data.decode("latin-1")) | JSON.map(json.dumps)


@given(TEXTS | TEXTS.map(lambda text: base64.b64encode(text.encode()).decode()), st.booleans())
def test_any_body_is_read_as_what_it_is_or_refused_in_our_words(body: str, encoded: bool) -> None:
    try:
        document = parse(text_of({"body": body, "isBase64Encoded": encoded}))
    except ApiError:
        return
    text = base64.b64decode(body).decode() if encoded else body
    assert document == json.loads(text.removeprefix("\ufeff"), parse_float=Decimal, parse_int=Decimal)


@given(JSON, st.booleans())
def test_documents_are_read_as_they_were_written(document: Any, ascii_only: bool) -> None:
    assert parse(json.dumps(document, ensure_ascii=ascii_only)) == json.loads(
        json.dumps(document), parse_float=Decimal, parse_int=Decimal
    )
