import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.auction.keys import order_id
from include.auction.models import Orders, slice_of
from include.errors import StorageRefusedError, StorageUnavailableError
from tests.worlds.s3 import FakeS3, raising, s3_error

DAY = date(2026, 3, 8)
URI = "s3://archive/runs/2026/03/08/run/orders.json"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def orders_of(*orders: Any) -> Orders:
    return Orders("run", DAY, orders)


def save(s3: FakeS3, *orders: Any) -> Orders:
    return orders_of(*orders).save(s3, URI)


def test_payload_is_the_order_with_our_id_and_day_and_loses_none_of_its_own() -> None:
    payload = orders_of({"status": "accepted"}, {"order": "rejected", "order_id": "mine", "order_date": 5}).payload(1)
    ours = {"order_id": order_id("run", 1), "order_date": "2026-03-08"}
    assert payload == {"order": "rejected", **ours, "given_order_id": "mine", "given_order_date": 5}


@pytest.mark.parametrize("order", [None, 5, "accepted", ["accepted"]])
def test_what_is_no_object_has_no_payload(order: Any) -> None:
    assert orders_of(order).payload(0) is None


@given(st.integers(0, 3000), st.integers(1, 1024), st.integers(1, 400))
def test_slices_cover_every_order_once(count: int, max_tasks: int, per_task: int) -> None:
    slices = orders_of(*[{}] * count).cut(max_tasks=max_tasks, per_task=per_task)
    assert [index for piece in slices for index in range(piece.start, piece.stop)] == list(range(count))
    assert len(slices) <= max_tasks
    largest = max((piece.size for piece in slices), default=0)
    assert largest <= (1 if count <= max_tasks else max(per_task, -(-count // max_tasks)))


@pytest.mark.parametrize(("count", "tasks"), [(0, 0), (1, 1), (100, 100), (101, 3), (1200, 24), (6000, 100)])
def test_number_of_tasks_with_the_default_settings(count: int, tasks: int) -> None:
    assert len(orders_of(*[{}] * count).cut(max_tasks=100, per_task=50)) == tasks


def test_labels_say_which_orders() -> None:
    assert slice_of(7, 8).label == "order 7"
    assert slice_of(100, 150).label == "orders 100-149"


@given(st.lists(JSON, max_size=5))
def test_orders_are_loaded_as_they_were_saved(orders: list[Any]) -> None:
    s3 = FakeS3()
    saved = save(s3, *orders)
    assert saved == Orders.load(s3, URI) == orders_of(*orders)


def test_orders_that_were_saved_first_are_not_replaced() -> None:
    s3 = FakeS3()
    first = save(s3, {"status": "accepted"})
    assert save(s3, {"status": "rejected"}, {}) == first
    assert len(s3.bodies("runs/2026/03/08/run/orders.json")) == 1


def test_half_a_surrogate_pair_is_saved_like_any_text() -> None:
    s3 = FakeS3()
    save(s3, {"text": "\ud800"})
    assert Orders.load(s3, URI).items == ({"text": "\ud800"},)
    json.loads((s3.bodies("runs/2026/03/08/run/orders.json")[0] or b"").decode())


def test_absent_orders_are_none_or_an_error_that_says_what_to_do() -> None:
    s3 = FakeS3()
    assert Orders.find(s3, URI) is None
    with pytest.raises(StorageRefusedError, match=r"are gone .* start a new run"):
        Orders.load(s3, URI)


def test_storage_that_fails_is_not_a_lost_race() -> None:
    s3 = FakeS3()
    s3.before["PutObject"] = raising(s3_error("ConditionalRequestConflict"))
    with pytest.raises(StorageUnavailableError):
        save(s3, {})
