import json
from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.auction.deadlines import RunDeadlines
from include.auction.functions import OrderFunction
from include.auction.models import OrderOutcome, Orders, Result, Summary, had_orders, slice_of
from include.auction.run import AuctionRun, raise_for_orders
from include.clients.lambda_function import FunctionClient
from include.errors import RetryableFailuresError, WorkFailedError
from include.mapped_work import NO_OUTCOME, MappedWork
from tests.worlds.functions import FakeLambda, RaisedError
from tests.worlds.s3 import FakeS3

DAY = date(2026, 3, 8)
URI = "s3://archive/runs/2026/03/08/run/orders.json"
RESULTS = st.sampled_from(Result)


def outcome(index: int, result: Result = Result.ACCEPTED, **more: Any) -> OrderOutcome:
    return OrderOutcome(index, f"id-{index}", result, **more)


def errored(index: int, *, retryable: bool = False) -> OrderOutcome:
    return outcome(index, Result.ERRORED, reason=f"reason {index}", retryable=retryable)


class Run:
    """A run whose tasks have one order each; orders of which ``bad`` names the index are rejected."""

    def __init__(self, count: int, bad: Sequence[int] = ()) -> None:
        self.s3 = FakeS3()
        Orders("run", DAY, tuple({"n": n} for n in range(count))).save(self.s3, URI)
        self.bad, self.error = set(bad), "OrderRejectedError"
        self.slices = [slice_of(n, n + 1) for n in range(count)]
        self.functions = FakeLambda({"b": self._order})

    @property
    def run(self) -> AuctionRun:
        return AuctionRun.load(URI, self.s3)

    @property
    def _function(self) -> OrderFunction:
        return OrderFunction(FunctionClient(self.functions), "b", tuple, lambda _: None)

    def process(self, index: int, *, clear_number: int = 0) -> None:
        self.run.process_slice(
            self.slices[index],
            self._function,
            deadlines=RunDeadlines.of(None),
            concurrency=1,
            clear_number=clear_number,
        )

    def finish(self) -> list[Result]:
        """As a later run does."""
        summary = self.run.finish(self.slices, self._function, deadlines=RunDeadlines.of(None), concurrency=1)
        return [outcome.result for outcome in summary.outcomes]

    def account(self, *, clear_number: int = 0, planned_at: int = 0, succeeded: Sequence[int] = ()) -> list[Result]:
        summary = self.run.account(
            self.slices,
            clear_number=clear_number,
            planned_at=planned_at,
            succeeded=succeeded,
            why_no_outcome=lambda index: None,
        )
        return [outcome.result for outcome in summary.outcomes]

    def _order(self, order: Any) -> Any:
        if order["n"] in self.bad:
            raise RaisedError(self.error, "no")
        return "key"


def test_outcomes_of_all_tasks_are_found() -> None:
    auction = Run(3, bad=[1])
    for index in range(3):
        auction.process(index)
    assert auction.account() == [Result.ACCEPTED, Result.REJECTED, Result.ACCEPTED]
    assert auction.s3.keys("runs/2026/03/08/run/outcomes/") == [
        f"runs/2026/03/08/run/outcomes/{n:06d}.json" for n in range(3)
    ]


def test_task_that_left_nothing_has_failed() -> None:
    auction = Run(2)
    auction.process(0)
    assert auction.account() == [Result.ACCEPTED, Result.ERRORED]


def test_accepted_order_counts_whatever_became_of_its_task_since() -> None:
    auction = Run(1)
    auction.process(0)
    for planned_at in (0, 1):
        assert auction.account(clear_number=1, planned_at=planned_at) == [Result.ACCEPTED]


def test_cleared_task_that_left_nothing_new_is_not_counted_by_its_earlier_life() -> None:
    auction = Run(1, bad=[0])
    auction.process(0)
    assert auction.account(clear_number=1) == [Result.REJECTED], "it names a failure"
    assert auction.account(clear_number=1, planned_at=1, succeeded=[0]) == [Result.ERRORED], "all were cleared"
    auction.process(0, clear_number=1)
    assert auction.account(clear_number=1, planned_at=1) == [Result.REJECTED]


@pytest.mark.parametrize("clear_number", [0, 1], ids=["first life", "cleared"])
def test_later_run_gives_only_what_is_not_settled_to_the_function(clear_number: int) -> None:
    auction = Run(4, bad=[1])
    auction.process(0, clear_number=clear_number)
    auction.process(1, clear_number=clear_number)
    auction.bad, auction.error = {2}, "Sandbox.Timedout"
    auction.process(2, clear_number=clear_number)
    auction.bad.clear()
    assert auction.finish() == [Result.ACCEPTED, Result.REJECTED, Result.ACCEPTED, Result.ACCEPTED]
    assert Counter(order["n"] for order in auction.functions.asked("b")) == {0: 1, 1: 1, 2: 2, 3: 1}


@given(st.lists(RESULTS, max_size=30), st.data())
def test_every_order_is_accounted_for_once(results: list[Result], data: st.DataObject) -> None:
    s3, count = FakeS3(), len(results)
    left = data.draw(st.sets(st.integers(0, max(count - 1, 0))))
    orders = Orders("run", DAY, tuple({} for _ in results)).save(s3, URI)
    slices = orders.cut(max_tasks=data.draw(st.integers(1, 40)), per_task=data.draw(st.integers(1, 40)))
    work = MappedWork(OrderOutcome, s3, "archive", URI.removeprefix("s3://archive/"), slices, 0)
    for piece in slices:
        work.file(piece).save(outcome(n, results[n]) for n in range(piece.start, piece.stop) if n in left)
    summary = AuctionRun.load(URI, s3).account(
        slices, clear_number=0, planned_at=0, succeeded=[], why_no_outcome=lambda index: f"task {index} died"
    )
    assert [ended.index for ended in summary.outcomes] == list(range(count))
    for n, ended in enumerate(summary.outcomes):
        assert ended.result is (results[n] if n in left else Result.ERRORED)
        assert n in left or (ended.reason or "").endswith("died")
    counts = summary.counts
    assert counts["total"] == count == counts["accepted"] + counts["rejected"] + counts["errored"]


def test_order_without_an_outcome_has_failed_for_good() -> None:
    run = Run(1).run
    (ended,) = run.account(
        [slice_of(0, 1)], clear_number=0, planned_at=0, succeeded=[], why_no_outcome=lambda index: None
    ).outcomes
    assert (ended.reason, ended.order_id, ended.retryable) == (NO_OUTCOME, run.orders.id_of(0), False)


def test_summary_is_saved_under_the_runs_day_and_id() -> None:
    s3 = FakeS3()
    outcomes = (outcome(0, key="orders/0"), outcome(1, Result.REJECTED, reason="no"), errored(2))
    key = Summary("run", DAY, outcomes).save(s3, "archive")
    assert key == "summaries/2026/03/08/run.json"
    assert json.loads(s3.bodies(key)[0] or b"") == {
        "run_id": "run",
        "date": "2026-03-08",
        "total": 3,
        "accepted": 1,
        "rejected": 1,
        "errored": 1,
        "keys": ["orders/0"],
        "not_accepted": [
            {"index": 1, "order_id": "id-1", "result": "rejected", "reason": "no"},
            {"index": 2, "order_id": "id-2", "result": "errored", "reason": "reason 2"},
        ],
        "reason": None,
    }


def test_summary_without_results_says_why() -> None:
    document = Summary("run", DAY, reason="no results within 240 s").to_document()
    assert (document["total"], document["keys"]) == (0, [])
    assert document["reason"] == "no results within 240 s"


def test_summary_without_orders_does_not_replace_one_with_orders() -> None:
    s3 = FakeS3()
    bucket, with_orders = s3, Summary("run", DAY, (outcome(0, key="orders/0"),))
    key = Summary("run", DAY, reason="no results").save(bucket, "archive")
    assert not had_orders(bucket, "archive", DAY, "run")
    assert with_orders.save(bucket, "archive") == key
    assert had_orders(bucket, "archive", DAY, "run")
    assert Summary("run", DAY, reason="waiting failed").save(bucket, "archive") == key
    assert [json.loads(body or b"")["total"] for body in s3.bodies(key)] == [0, 1]


def test_accepted_orders_raise_nothing() -> None:
    raise_for_orders([])
    raise_for_orders([outcome(0), outcome(1)])


def test_order_for_which_a_retry_may_succeed_asks_for_one() -> None:
    with pytest.raises(
        RetryableFailuresError, match=r"^1 accepted, 1 rejected, 1 errored of 3 orders: order 2: reason 2; order 1: no$"
    ):
        raise_for_orders([outcome(0), outcome(1, Result.REJECTED, reason="no"), errored(2, retryable=True)])


def test_orders_for_which_none_can_fail_their_task_in_a_short_text() -> None:
    with pytest.raises(WorkFailedError) as caught:
        raise_for_orders([errored(n) for n in range(50)])
    assert str(caught.value) == (
        "50 errored of 50 orders: order 0: reason 0; order 1: reason 1; order 2: reason 2; and 47 more"
    )
