from collections.abc import Callable

import pytest

from lambdas.common import environment
from lambdas.common.environment import EnvironmentVariableError


def put(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("UNDER_TEST", raising=False)
    else:
        monkeypatch.setenv("UNDER_TEST", value)


def test_text_is_taken_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, " zażółć=1 ")
    assert environment.text("UNDER_TEST") == " zażółć=1 "
    assert environment.text("UNDER_TEST", default="other") == " zażółć=1 "


@pytest.mark.parametrize("value", [None, ""], ids=["absent", "empty"])
def test_absent_text_has_a_default_or_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    put(monkeypatch, value)
    assert environment.text("UNDER_TEST", default="") == ""
    with pytest.raises(EnvironmentVariableError, match="UNDER_TEST is missing or empty"):
        environment.text("UNDER_TEST")


@pytest.mark.parametrize(("value", "expected"), [("0", 0), ("1", 1), ("0.3", 0.3), (" 1e-3 ", 0.001)])
def test_number_in_range_is_taken(monkeypatch: pytest.MonkeyPatch, value: str, expected: float) -> None:
    put(monkeypatch, value)
    assert environment.number("UNDER_TEST", least=0, most=1) == expected


@pytest.mark.parametrize(("value", "expected"), [("1", 1), ("500", 500), (" 7 ", 7)])
def test_whole_number_in_range_is_taken(monkeypatch: pytest.MonkeyPatch, value: str, expected: int) -> None:
    put(monkeypatch, value)
    assert environment.whole_number("UNDER_TEST", least=1, most=500) == expected


def a_number() -> float:
    return environment.number("UNDER_TEST", least=0, most=1)


def a_whole_number() -> int:
    return environment.whole_number("UNDER_TEST", least=1, most=500)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        *[(a_number, value) for value in (None, "", "planted", "nan", "inf", "-0.1", "1.1", "0,5")],
        *[(a_whole_number, value) for value in (None, "", "planted", "0", "501", "1.5", "1e2", "9" * 5000)],
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)[:20]),
)
def test_what_is_no_such_number_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[], float], value: str | None
) -> None:
    put(monkeypatch, value)
    with pytest.raises(EnvironmentVariableError, match="UNDER_TEST") as caught:
        read()
    assert "planted" not in str(caught.value)
