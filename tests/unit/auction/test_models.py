from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.auction.keys import order_id
from include.auction.models import OrderBook, find_book, keep_book, read_answer, read_book, slice_of
from include.errors import InvalidAnswerError, StorageRefusedError, StorageUnavailableError
from tests.worlds.s3 import FakeS3, s3_error

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DAY = date(2026, 3, 8)
PLACE = "s3://archive/runs/2026/03/08/run/orders.json"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def book(*orders: Any) -> OrderBook:
    return OrderBook("run", DAY, orders)


def keep(s3: FakeS3, *orders: Any) -> OrderBook:
    return keep_book(cast("S3Client", s3), PLACE, run_id="run", day=DAY, orders=orders)


@pytest.mark.parametrize("more", [{}, {"orders": [1]}, {"orders": None}])
def test_no_results_yet(more: dict[str, Any]) -> None:
    assert read_answer({"results": False, **more}) is None


@given(st.lists(JSON, max_size=5))
def test_orders_are_taken_as_they_are(orders: list[Any]) -> None:
    assert read_answer({"results": True, "orders": orders, "more": 1}) == orders


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
        read_answer(answer)
    assert str(caught.value) == reason


@given(JSON)
def test_any_answer_is_orders_or_nothing_or_malformed(answer: Any) -> None:
    try:
        orders = read_answer(answer)
    except InvalidAnswerError:
        return
    assert orders is None or isinstance(orders, list)


def test_payload_is_the_order_with_its_id_and_day() -> None:
    payload = book({"status": "accepted"}, {"order": "rejected", "order_id": "mine", "order_date": 5}).payload(1)
    assert payload == {"order": "rejected", "order_id": order_id("run", 1), "order_date": "2026-03-08"}


@pytest.mark.parametrize("order", [None, 5, "accepted", ["accepted"]])
def test_what_is_no_object_has_no_payload(order: Any) -> None:
    assert book(order).payload(0) is None


@given(st.integers(0, 3000), st.integers(1, 1024), st.integers(1, 400))
def test_slices_cover_every_order_once(count: int, max_tasks: int, per_task: int) -> None:
    slices = book(*[{}] * count).cut(max_tasks=max_tasks, per_task=per_task)
    assert [index for piece in slices for index in range(piece.start, piece.stop)] == list(range(count))
    assert len(slices) <= max_tasks
    largest = max((piece.size for piece in slices), default=0)
    assert largest <= (1 if count <= max_tasks else max(per_task, -(-count // max_tasks)))


@pytest.mark.parametrize(("count", "tasks"), [(0, 0), (1, 1), (100, 100), (101, 3), (1200, 24), (6000, 100)])
def test_number_of_tasks_with_the_default_settings(count: int, tasks: int) -> None:
    assert len(book(*[{}] * count).cut(max_tasks=100, per_task=50)) == tasks


def test_labels_say_which_orders() -> None:
    assert slice_of(7, 8).label == "order 7"
    assert slice_of(100, 150).label == "orders 100-149"


@given(st.lists(JSON, max_size=5))
def test_book_is_read_as_it_was_kept(orders: list[Any]) -> None:
    s3 = FakeS3()
    kept = keep(s3, *orders)
    assert kept == read_book(cast("S3Client", s3), PLACE) == book(*orders)


def test_first_orders_are_the_orders() -> None:
    s3 = FakeS3()
    first = keep(s3, {"status": "accepted"})
    assert keep(s3, {"status": "rejected"}, {}) == first
    assert len(s3.bodies("runs/2026/03/08/run/orders.json")) == 1


def test_half_a_surrogate_pair_is_kept_like_any_text() -> None:
    s3 = FakeS3()
    keep(s3, {"text": "\ud800"})
    assert read_book(cast("S3Client", s3), PLACE).orders == ({"text": "\ud800"},)
    json.loads((s3.bodies("runs/2026/03/08/run/orders.json")[0] or b"").decode())


def test_absent_orders_are_none_or_an_error_that_says_what_to_do() -> None:
    s3 = cast("S3Client", FakeS3())
    assert find_book(s3, PLACE) is None
    with pytest.raises(StorageRefusedError, match=r"are gone .* start a new run"):
        read_book(s3, PLACE)


def test_storage_that_fails_is_not_a_lost_race() -> None:
    s3 = FakeS3()

    def fail(request: object) -> None:
        raise s3_error("ConditionalRequestConflict")

    s3.before["PutObject"] = fail
    with pytest.raises(StorageUnavailableError):
        keep(s3, {})
