from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.auction.functions import parse_answer
from include.errors import InvalidAnswerError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("more", [{}, {"orders": [1]}, {"orders": None}])
def test_no_results_yet(more: dict[str, Any]) -> None:
    assert parse_answer({"results": False, **more}) is None


@given(st.lists(JSON, max_size=5))
def test_orders_are_taken_as_they_are(orders: list[Any]) -> None:
    assert parse_answer({"results": True, "orders": orders, "more": 1}) == orders


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "the answer is not an object but NoneType"),
        ("secret", "the answer is not an object but str"),
        ([{"results": True}], "the answer is not an object but list"),
        ({}, "the answer has no field 'results'"),
        ({"Results": True, "orders": []}, "the answer has no field 'results'"),
        ({"results": None}, "'results' in the answer is not true or false but NoneType"),
        ({"results": "true", "orders": []}, "'results' in the answer is not true or false but str"),
        ({"results": 1, "orders": []}, "'results' in the answer is not true or false but int"),
        ({"results": True}, "the answer has results, but no field 'orders'"),
        ({"results": True, "orders": None}, "'orders' in the answer is not a list but NoneType"),
        ({"results": True, "orders": {"secret": 1}}, "'orders' in the answer is not a list but dict"),
        ({"results": True, "orders": "secret"}, "'orders' in the answer is not a list but str"),
    ],
)
def test_malformed_answer_is_named_and_not_quoted(answer: object, reason: str) -> None:
    with pytest.raises(InvalidAnswerError) as caught:
        parse_answer(answer)
    assert str(caught.value) == reason


@given(JSON)
def test_any_answer_is_orders_or_nothing_or_malformed(answer: Any) -> None:
    try:
        orders = parse_answer(answer)
    except InvalidAnswerError:
        return
    assert orders is None or isinstance(orders, list)
