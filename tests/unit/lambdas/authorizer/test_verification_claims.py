"""What a token that is signed with the right key must say."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lambdas.authorizer.verification import LEEWAY_SECONDS
from tests.worlds.authorizer import NOW, reason, signed, subject, written


@pytest.mark.parametrize("missing", ["sub", "exp", "iat", "aud"])
def test_each_claim_is_required(missing: str) -> None:
    assert reason(signed(**{missing: None})) == f"claim {missing} is missing"
    assert reason(written(f'"{missing}": null')) == f"claim {missing} is missing"


@pytest.mark.parametrize(
    ("audience", "allowed"),
    [
        ("orders-api", True),
        (["orders-api"], True),
        (["events-api", "orders-api"], True),
        ("orders-api ", False),
        ("Orders-API", False),
        ("orders", False),
        ("", False),
        ([], False),
        (["events-api"], False),
        ([["orders-api"]], False),
        (["orders-api", 1], False),
        ({"orders-api": 1}, False),
        (1, False),
        (True, False),
    ],
    ids=repr,
)
def test_audience(audience: object, allowed: bool) -> None:
    if allowed:
        assert subject(signed(aud=audience)) == "test-user"
    else:
        assert reason(signed(aud=audience)) == f"claim aud is {'wrong' if audience else 'missing'}"
    assert subject(signed(aud=audience), audience=None) == "test-user"


@pytest.mark.parametrize(
    ("issuer", "allowed"), [("me", True), ("you", False), ("", False), (["me"], False), (None, False)]
)
def test_issuer(issuer: object, allowed: bool) -> None:
    if allowed:
        assert subject(signed(iss=issuer), issuer="me") == "test-user"
    else:
        assert reason(signed(iss=issuer), issuer="me") == f"claim iss is {'missing' if issuer is None else 'wrong'}"
    assert subject(signed(iss=issuer)) == "test-user"


@pytest.mark.parametrize(
    ("times", "refusal"),
    [
        ({"exp": NOW - LEEWAY_SECONDS + 1}, None),
        ({"exp": NOW - LEEWAY_SECONDS}, "claim exp is past"),
        ({"exp": NOW - 86_400}, "claim exp is past"),
        ({"iat": NOW + LEEWAY_SECONDS}, None),
        ({"iat": NOW + LEEWAY_SECONDS + 1}, "claim iat is in the future"),
        ({"nbf": NOW + LEEWAY_SECONDS}, None),
        ({"nbf": NOW + LEEWAY_SECONDS + 1}, "claim nbf is in the future"),
        ({"nbf": NOW - 1}, None),
        ({"exp": NOW + 300.5, "iat": NOW - 0.5, "nbf": NOW - 1.5}, None),
        ({"exp": 253_402_300_799}, None),
    ],
    ids=str,
)
def test_times_have_thirty_seconds_of_leeway(times: dict[str, Any], refusal: str | None) -> None:
    if refusal is None:
        assert subject(signed(**times)) == "test-user"
    else:
        assert reason(signed(**times)) == refusal


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value",
    [
        "true",
        f'"{NOW}"',
        f'"{NOW + 300}"',
        '"x"',
        "1e400",
        "-1e400",
        "NaN",
        "-1",
        "9" * 400,
        "9" * 5_000,
        "[]",
        "{}",
        "1e18",
    ],
    ids=lambda value: value[:12],
)
def test_time_that_is_none(name: str, value: str) -> None:
    assert reason(written(f'"{name}": {value}'))


@pytest.mark.parametrize(
    "value", ['""', "1", "true", "[]", "{}", '"\\ud800"', '"a\\nb"', '"\\u0000"', f'"{"x" * 257}"']
)
def test_subject_that_is_none(value: str) -> None:
    assert reason(written(f'"sub": {value}'))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exp", '"x"'),
        ("exp", "1e400"),
        ("iat", "true"),
        ("nbf", '"1"'),
        ("nbf", "null"),
        ("nbf", "[]"),
        ("sub", "1"),
        ("sub", '""'),
        ("jti", "1"),
    ],
)
def test_reason_names_the_claim_and_not_its_value(name: str, value: str) -> None:
    named = re.fullmatch(
        r"claim ([a-z, ]+) (is no time|is no text|cannot be used)", reason(written(f'"{name}": {value}'))
    )
    assert named
    assert name in named[1].replace(" or", ",").split(", ")


def test_tokens_without_audience_and_issuer_pass_where_none_is_asked_for() -> None:
    assert subject(signed(aud=None, iss=None), audience=None, issuer=None) == "test-user"


def test_claim_that_is_given_twice_counts_once_and_signed() -> None:
    """The last one, as everywhere in Python; only who has the key can write either."""
    assert subject(written('"sub": "second"')) == "second"
