import json
import re
from datetime import date
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lambdas.auction.order import InvalidOrderError, Order, OrderError, OrderRejectedError, accepted_order

ORDER_ID = "9f86d081884c7d65"
TODAY = date(2026, 3, 8)
ACCEPTED = {"order_id": ORDER_ID, "order_date": "2026-03-07", "status": "accepted", "power": 1}

# What a JSON text can hold once Python has read it; 1e999 is read as infinity.
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
STATUSES = st.sampled_from(["accepted", "rejected"]) | JSON_VALUES
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "order_id": st.text("aZ9._-", min_size=1) | JSON_VALUES,
        "order_date": st.dates().map(str) | JSON_VALUES,
        "status": STATUSES,
        "order": STATUSES,
        "power": JSON_VALUES,
        "": JSON_VALUES,
    },
)


def read(event: object) -> Order:
    return accepted_order(event, request_id="request-1", today=TODAY)


def outcome(event: object) -> Order | OrderError:
    try:
        return read(event)
    except OrderError as error:
        return error


def refused(event: object) -> str:
    with pytest.raises(InvalidOrderError) as caught:
        read(event)
    return str(caught.value)


def test_accepted_order_is_kept_with_all_its_fields() -> None:
    order = read({**ACCEPTED, "area": {"name": "Łódź", "grid": [1, 2.5]}})
    assert order.key == f"orders/2026/03/07/order_{ORDER_ID}.json"
    assert json.loads(order.body) == {**ACCEPTED, "area": {"name": "Łódź", "grid": [1, 2.5]}}


def test_order_sent_by_hand_gets_the_request_id_and_the_day() -> None:
    order = read({"status": "accepted", "power": 1})
    assert order.key == "orders/2026/03/08/order_request-1.json"
    assert json.loads(order.body) == {
        "status": "accepted", "power": 1, "order_id": "request-1", "order_date": "2026-03-08",
    }  # fmt: skip


def test_older_producers_say_order_in_place_of_status() -> None:
    older = {"order_id": ORDER_ID, "order": "accepted"}
    assert json.loads(read(older).body)["order"] == "accepted"
    with pytest.raises(OrderRejectedError):
        read({**older, "order": "rejected"})


def test_status_goes_before_order() -> None:
    assert read({**ACCEPTED, "order": "rejected"}).id == ORDER_ID
    assert "unknown status" in refused({**ACCEPTED, "status": None, "order": "accepted"})


def test_rejected_order_is_named_and_nothing_else_of_it() -> None:
    with pytest.raises(OrderRejectedError) as caught:
        read({**ACCEPTED, "status": "rejected", "note": "confidential"})
    assert str(caught.value) == f"OrderRejectedError: order {ORDER_ID} was rejected"


def test_names_of_the_errors_are_those_that_callers_know() -> None:
    """Lambda hands on the name of the class as errorType; the message begins with it (see OrderError)."""
    assert (OrderRejectedError.__name__, InvalidOrderError.__name__) == ("OrderRejectedError", "InvalidOrderError")
    assert refused([]).startswith("InvalidOrderError: ")


@pytest.mark.parametrize(
    "status",
    ["Accepted", "", "pending\n", "x" * 100_000, None, True, 1, ["accepted"], {"status": "accepted"}],
    ids=lambda status: str(status)[:20],
)
def test_unknown_status_is_not_quoted(status: object) -> None:
    assert refused({**ACCEPTED, "status": status}) == (
        f"InvalidOrderError: order {ORDER_ID} has an unknown status; known are accepted and rejected"
    )


@pytest.mark.parametrize("field", ["status", "order_id", "order_date"])
def test_no_message_quotes_the_input(field: str) -> None:
    """The runtime logs it."""
    assert "planted" not in refused({**ACCEPTED, field: "planted secret"})
    assert "planted" not in refused("planted secret")


def test_missing_status_is_said() -> None:
    assert refused({"order_id": ORDER_ID, "power": 1}) == f"InvalidOrderError: order {ORDER_ID} has no status"


@pytest.mark.parametrize("event", [None, [], [ACCEPTED], "accepted", 1, True], ids=str)
def test_order_must_be_an_object(event: object) -> None:
    assert "JSON object" in refused(event)


@pytest.mark.parametrize("order_id", ["", "a/b", "../a", "a b", "a\n", "é", "a" * 129, "%2F", None, 7, ["a"]], ids=str)
def test_order_id_that_is_no_part_of_a_key_is_refused(order_id: object) -> None:
    assert "order_id" in refused({**ACCEPTED, "order_id": order_id})


@pytest.mark.parametrize("order_id", ["a", "a" * 128, "..", "A-z_0.9"], ids=len)
def test_order_id_of_the_allowed_characters_is_taken(order_id: str) -> None:
    assert read({**ACCEPTED, "order_id": order_id}).key == f"orders/2026/03/07/order_{order_id}.json"


@pytest.mark.parametrize(
    "order_date",
    ["", "2026-3-7", "20260307", "2026-02-30", "2026-W10-7", "2026-03-07T00:00", "2026-03-07\n", "٢٠٢٦-٠٣-٠٨", None, 1],
    ids=str,
)
def test_malformed_date_is_refused(order_date: object) -> None:
    assert "order_date" in refused({**ACCEPTED, "order_date": order_date})


def test_early_years_are_padded() -> None:
    assert read({**ACCEPTED, "order_date": "0987-06-05"}).key.startswith("orders/0987/06/05/")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_number_that_json_cannot_write_is_refused(number: str) -> None:
    event = json.loads(f'{{"order_id": "{ORDER_ID}", "status": "accepted", "power": {number}}}')
    assert refused(event) == f"InvalidOrderError: order {ORDER_ID} has a number that is out of range"


def test_order_nested_too_deep_to_be_written_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(20_000):
        deep = [deep]
    assert refused({**ACCEPTED, "power": deep}) == f"InvalidOrderError: order {ORDER_ID} is nested too deep"


@given(JSON_VALUES | FIELDS)
@example({"order": "accepted"})
def test_any_input_ends_in_one_of_three_ways(event: object) -> None:
    """Kept under one flat key, as JSON that reads the same again; or rejected; or invalid, by a short message."""
    order = outcome(event)
    if isinstance(order, OrderError):
        assert len(str(order)) < 300
        assert type(order) is not OrderError
        assert str(order).isprintable()
        return
    assert re.fullmatch(r"orders/\d{4}/\d\d/\d\d/order_[A-Za-z0-9._-]{1,128}\.json", order.key)
    assert isinstance(event, dict)
    assert json.loads(order.body) == {**event, "order_id": order.id, "order_date": order.date.isoformat()}


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_accepted_orders_are_kept_exactly(fields: dict[str, Any]) -> None:
    event = {**fields, **ACCEPTED}
    order = outcome(event)
    if isinstance(order, OrderError):
        assert "out of range" in str(order)
    else:
        assert json.loads(order.body) == event
