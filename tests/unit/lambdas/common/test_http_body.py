import base64
from decimal import Decimal
from typing import Any

import pytest

from lambdas.common.errors import EmptyBodyError, NotJsonError, TooLargeError
from lambdas.common.http import AmbiguousObject, body_text, parse_json

MAX_BYTES = 1_000_000


def text_of(event: dict[str, Any]) -> str:
    return body_text(event, max_bytes=MAX_BYTES)


def parse(text: str) -> Any:
    return parse_json(text, number=Decimal)


def in_base64(data: bytes) -> dict[str, Any]:
    return {"body": base64.b64encode(data).decode(), "isBase64Encoded": True}


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"body": "[1]"}, "[1]"),
        ({"body": "[1]", "isBase64Encoded": False}, "[1]"),
        ({"body": '["Zażółć 🏭"]'}, '["Zażółć 🏭"]'),
        ({"body": "\ufeff[1]"}, "[1]"),
        (in_base64(b"[1]"), "[1]"),
        (in_base64('["Zażółć 🏭"]'.encode()), '["Zażółć 🏭"]'),
        (in_base64(b"\xef\xbb\xbf[1]"), "[1]"),
    ],
)
def test_body_is_decoded_to_its_text(event: dict[str, Any], text: str) -> None:
    assert text_of(event) == text


@pytest.mark.parametrize(
    "event",
    [{}, {"body": None}, {"body": ""}, {"body": " \r\n\t"}, {"body": "\ufeff"}, in_base64(b""), in_base64(b" \n")],
    ids=repr,
)
def test_empty_body_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(EmptyBodyError):
        text_of(event)


@pytest.mark.parametrize(
    "event",
    [
        in_base64(b'["\xff"]'),
        in_base64('["planted"]'.encode("utf-16")),
        in_base64(b'["\xed\xa0\x80"]'),
        {"body": '["\ud800"]'},
        {"body": "*planted*", "isBase64Encoded": True},
        {"body": "WzFd*", "isBase64Encoded": True},
        {"body": "zażółć", "isBase64Encoded": True},
    ],
    ids=["latin", "UTF-16", "surrogate in UTF-8", "surrogate", "no base64", "base64 and more", "no ASCII"],
)
def test_body_that_is_not_utf8_is_refused_and_not_quoted(event: dict[str, Any]) -> None:
    with pytest.raises(NotJsonError, match="UTF-8") as caught:
        text_of(event)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("character", ["x", "ż", "東", "🏭"])
def test_size_is_that_of_the_utf8(character: str) -> None:
    largest = character * (MAX_BYTES // len(character.encode()))
    for event in ({"body": largest}, in_base64(largest.encode())):
        assert text_of(event) == largest
    for event in ({"body": largest + character}, in_base64((largest + character).encode())):
        with pytest.raises(TooLargeError, match=str(MAX_BYTES)):
            text_of(event)


def test_numbers_are_made_of_what_was_written() -> None:
    document = parse_json('{"a": [1, -0.50, 1.5E+3], "b": 12345678901234567890}', number=str)
    assert document == {"a": ["1", "-0.50", "1.5E+3"], "b": "12345678901234567890"}


def test_object_that_gives_a_name_twice_names_it() -> None:
    assert parse('[{"a": 1, "b": 2, "c": 3, "b": 4, "a": 5}]') == [AmbiguousObject("b")]
    assert parse('{"a": {"a": 1}, "b": {"a": 2}}') == {"a": {"a": Decimal(1)}, "b": {"a": Decimal(2)}}


@pytest.mark.parametrize(
    "text",
    [
        "planted",
        "{'planted': 1}",
        '{"planted": 1,}',
        '["planted"',
        '["planted"] {}',
        '"planted\n"',
        "[01]",
        "[+1]",
        "[.5]",
        "[1.]",
        "[0x1]",
        "[1e]",
        "[NaN]",
        "[Infinity]",
        '{"planted": -Infinity}',
        "\ufeff[]",
        "[1]\x0c",
        "[" * 200_000 + "]" * 200_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_json_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(NotJsonError, match="not JSON") as caught:
        parse(text)
    assert "planted" not in str(caught.value)


def test_error_says_where_the_body_is_no_json() -> None:
    with pytest.raises(NotJsonError, match=r"\(line 2, column 4\)"):
        parse("[1,\n 2 3]")
