from __future__ import annotations

from typing import Any

import pytest

from lambdas.authorizer.signing_keys import DeniedError, MissingTokenError
from lambdas.authorizer.verification import MAX_CHARACTERS, token_of


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION", "aUTHORIZATION"])
@pytest.mark.parametrize(
    "value", ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c", " Bearer a.b.c ", "a.b.c", " a.b.c"]
)
def test_token_of_a_header_in_any_case(name: str, value: str) -> None:
    assert token_of({"headers": {"Host": "x", name: value}}) == "a.b.c"
    assert token_of({"multiValueHeaders": {"Host": ["x"], name: [value]}}) == "a.b.c"
    assert token_of({"headers": {name: value}, "multiValueHeaders": {name: [value]}}) == "a.b.c"


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"headers": None, "multiValueHeaders": None},
        {"headers": {"Host": "x", "Proxy-Authorization": "Bearer a.b.c", "X-Authorization": "a.b.c"}},
        {"headers": {"Authorization": ""}},
        {"headers": {"Authorization": " \t"}},
        {"multiValueHeaders": {"authorization": [""]}},
        {"multiValueHeaders": {"authorization": []}},
        {"headers": {"Authorization": None}},
        {"multiValueHeaders": {"Authorization": None}},
        {"multiValueHeaders": {"Authorization": [None]}},
    ],
    ids=repr,
)
def test_missing_token(event: dict[str, Any]) -> None:
    with pytest.raises(MissingTokenError):
        token_of(event)


@pytest.mark.parametrize("value", ["Bearer", "bearer ", "Basic dTpw", "Bearer a b", "a b", "Bearer Bearer a", "a, b"])
def test_what_is_no_bearer_token(value: str) -> None:
    with pytest.raises(DeniedError, match="no bearer token"):
        token_of({"headers": {"Authorization": value}})


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ["Bearer a", "Bearer a"]},
        {"Authorization": ["Bearer a", ""]},
        {"Authorization": ["", "Bearer a"]},
        {"Authorization": ["Bearer a"], "authorization": ["Bearer b"]},
    ],
    ids=repr,
)
def test_two_headers_are_denied(headers: dict[str, list[str]]) -> None:
    with pytest.raises(DeniedError, match="several headers"):
        token_of({"multiValueHeaders": headers})


def test_long_header_is_denied_undecoded() -> None:
    longest = "a" * MAX_CHARACTERS
    assert token_of({"headers": {"Authorization": longest}}) == longest
    for value in (longest + "a", "Bearer " + "a" * 100_000):
        with pytest.raises(DeniedError, match="too long"):
            token_of({"headers": {"Authorization": value}})
