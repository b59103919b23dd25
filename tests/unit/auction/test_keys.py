import hashlib
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.auction.keys import alerts_key, auction_day, order_id, orders_key, summary_key

DAY = date(2026, 3, 8)
RUN = "scheduled__2026-03-08T06:00:00+00:00"
LATE = datetime(2026, 3, 8, 23, 30, tzinfo=timezone(timedelta(hours=-5)))


def test_files_lie_where_the_contract_says() -> None:
    orders = orders_key(DAY, RUN)
    assert orders == f"runs/2026/03/08/{RUN}/orders.json"
    assert alerts_key(orders) == f"runs/2026/03/08/{RUN}/alerts.json"
    assert summary_key(DAY, RUN) == f"summaries/2026/03/08/{RUN}.json"


def test_order_id_is_the_hash_of_run_and_index() -> None:
    assert order_id(RUN, 7) == hashlib.sha256(f"{RUN}/7".encode()).hexdigest()


@given(st.lists(st.tuples(st.text(), st.integers(0, 10**6)), unique=True, max_size=20))
def test_different_orders_have_different_ids(orders: list[tuple[str, int]]) -> None:
    assert len({order_id(run, index) for run, index in orders}) == len({f"{run}/{index}" for run, index in orders})


@pytest.mark.parametrize(
    ("logical_date", "run_after", "expected"),
    [
        (LATE, datetime(2026, 3, 20, tzinfo=UTC), date(2026, 3, 9)),
        (None, LATE, date(2026, 3, 9)),
        (None, datetime(2026, 3, 8, 23, 59, tzinfo=UTC), DAY),
    ],
)
def test_day_is_the_utc_day_of_the_run(logical_date: datetime | None, run_after: datetime, expected: date) -> None:
    assert auction_day(logical_date=logical_date, run_after=run_after) == expected
