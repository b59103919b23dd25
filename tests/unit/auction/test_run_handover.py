"""The trigger that found the orders gives them to Lambda B; the mapped tasks resume from its outcomes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from include.auction.deadlines import GRACE, HANDOVER, LAST_ORDER, MAX_RESULTS, RunDeadlines
from include.auction.functions import OrderFunction
from include.auction.models import Orders, Result
from include.auction.run import AT_ONCE, AuctionRun
from include.clients.lambda_function import FunctionClient
from tests.worlds.functions import FakeLambda, Meeting, RaisedError, lambda_error
from tests.worlds.s3 import FakeS3, raising, s3_error

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

URI = "s3://archive/runs/2026/03/08/run/orders.json"
OUTCOMES = "runs/2026/03/08/run/outcomes/"


class Run:
    """A run that is ``age`` seconds old, with ``per_task`` orders to a task; ``order`` is what Lambda B does."""

    def __init__(self, count: int, order: Callable[[Any], Any] | None = None, *, per_task: int = 1) -> None:
        self.age, self.s3 = 0.0, FakeS3()
        self.clock: Callable[[], float] = lambda: self.age
        self.stop = threading.Event()
        orders = Orders("run", date(2026, 3, 8), tuple({"n": n} for n in range(count)))
        self.run = AuctionRun(self._s3, URI, orders.save(self._s3, URI))
        self.slices = orders.cut(max_tasks=-(-count // per_task) if per_task > 1 else count, per_task=per_task)
        self.functions = FakeLambda({"b": order or (lambda order: {"key": f"orders/{order['n']}"})})

    @property
    def _s3(self) -> S3Client:
        return self.s3

    @property
    def _function(self) -> OrderFunction:
        return OrderFunction(FunctionClient(self.functions), "b", tuple, lambda _: None)

    @property
    def _deadlines(self) -> RunDeadlines:
        return RunDeadlines(0.0, self.clock)

    def hand_over(self) -> None:
        self.run.hand_over(self.slices, self._function, deadlines=self._deadlines, clear_number=0, stop=self.stop)

    def process(self, *, clear_number: int = 0) -> list[Result]:
        """Every mapped task, one after the other."""
        outcomes = [
            self.run.process_slice(
                piece, self._function, deadlines=self._deadlines, concurrency=2, clear_number=clear_number
            )
            for piece in self.slices
        ]
        return [outcome.result for each in outcomes for outcome in each]

    @property
    def asked(self) -> Counter[int]:
        return Counter(payload["n"] for payload in self.functions.asked("b"))


@pytest.mark.parametrize("per_task", [1, 3, 10])
def test_tasks_find_their_orders_settled(per_task: int) -> None:
    def order(payload: Any) -> Any:
        if payload["n"] == 4:
            raise RaisedError("OrderRejectedError", "no")
        return {"key": "k"}

    auction = Run(10, order, per_task=per_task)
    auction.hand_over()
    assert auction.process() == [Result.REJECTED if n == 4 else Result.ACCEPTED for n in range(10)]
    assert auction.asked == dict.fromkeys(range(10), 1)


def test_order_for_which_a_retry_may_succeed_is_left_to_its_task() -> None:
    failures = iter([lambda_error("ServiceException")])

    def order(payload: Any) -> Any:
        if payload["n"] == 1 and (error := next(failures, None)):
            raise error
        return {"key": "k"}

    auction = Run(3, order, per_task=3)
    auction.hand_over()
    assert auction.process() == [Result.ACCEPTED] * 3
    assert auction.asked == {0: 1, 1: 2, 2: 1}


def test_cleared_run_gives_all_to_the_function_again() -> None:
    auction = Run(2)
    auction.hand_over()
    auction.process(clear_number=1)
    assert auction.asked == {0: 2, 1: 2}


def test_outcomes_of_a_task_are_never_overwritten() -> None:
    """By a triggerer that was taken for dead, and whose orders the tasks have done meanwhile."""
    auction = Run(1)
    auction.process()
    auction.functions.functions["b"] = lambda order: {"key": "late"}
    auction.hand_over()
    assert len(auction.s3.bodies(f"{OUTCOMES}000000.json")) == 1
    assert b"late" not in (auction.s3.bodies(f"{OUTCOMES}000000.json")[0] or b"")


@pytest.mark.parametrize("age", [MAX_RESULTS, LAST_ORDER])
def test_nothing_is_handed_over_when_the_tasks_need_the_time(age: float) -> None:
    auction = Run(3)
    auction.age = age
    auction.hand_over()
    assert auction.asked == {}
    assert auction.s3.keys(OUTCOMES) == []


def test_slow_function_gets_no_further_orders_after_a_while() -> None:
    def order(payload: Any) -> Any:
        auction.age += HANDOVER / AT_ONCE
        return {"key": "k"}

    auction = Run(3 * AT_ONCE, order)
    auction.hand_over()
    assert AT_ONCE <= auction.asked.total() < 3 * AT_ONCE
    assert auction.process() == [Result.ACCEPTED] * 3 * AT_ONCE
    assert set(auction.asked.values()) == {1}


@pytest.mark.parametrize("per_task", [1, 2])
def test_answer_that_does_not_come_is_not_waited_for(per_task: int, caplog: pytest.LogCaptureFixture) -> None:
    first, answer, answered = threading.Event(), threading.Event(), threading.Event()

    def order(payload: Any) -> Any:
        if payload["n"] == 0:
            first.set()
        else:
            answer.wait(60)
            answered.set()
        return {"key": "k"}

    auction = Run(2, order, per_task=per_task)
    # The orders begin in time, and whoever waits for their answers has a moment left when the first one is there.
    waiting, looks = threading.current_thread(), iter([0.0])

    def clock() -> float:
        if threading.current_thread() is not waiting or next(looks, None) is not None:
            return 0.0
        assert first.wait(60)
        return MAX_RESULTS + GRACE - 1.0

    auction.clock = clock
    auction.hand_over()
    assert not answered.is_set()
    answer.set()
    assert "has not answered in time" in caplog.text
    assert [key.removeprefix(OUTCOMES) for key in auction.s3.keys(OUTCOMES)] == ["000000.json"]


def test_storage_that_does_not_answer_is_not_waited_for() -> None:
    auction, answer, answered = Run(1), threading.Event(), threading.Event()
    waiting, looks = threading.current_thread(), iter([0.0, 0.0])

    def clock() -> float:
        """When orders begin and are waited for, there is time; none is left when their outcomes are."""
        return next(looks, MAX_RESULTS + GRACE) if threading.current_thread() is waiting else 0.0

    def stuck(request: object) -> None:
        answer.wait(60)
        answered.set()

    auction.clock = clock
    auction.s3.before["PutObject"] = stuck
    auction.hand_over()
    assert not answered.is_set()
    answer.set()
    assert auction.asked == {0: 1}


def test_stop_begins_no_further_order() -> None:
    auction = Run(5)
    auction.stop.set()
    auction.hand_over()
    assert auction.asked == {}


def test_throttled_order_is_not_given_again_after_a_stop() -> None:
    auction = Run(1)

    def throttled(order: Any) -> Any:
        auction.stop.set()
        raise lambda_error("TooManyRequestsException")

    auction.functions.functions["b"] = throttled
    auction.hand_over()
    assert auction.asked == {0: 1}


def test_outcomes_that_cannot_be_saved_cost_a_second_call(caplog: pytest.LogCaptureFixture) -> None:
    auction = Run(2)
    auction.s3.before["PutObject"] = raising(s3_error("SlowDown"))
    auction.hand_over()
    auction.s3.before.clear()
    assert "their task repeats its orders" in caplog.text
    assert auction.process() == [Result.ACCEPTED] * 2
    assert auction.asked == {0: 2, 1: 2}


def test_no_more_invocations_at_once_than_a_map_has() -> None:
    meeting = Meeting(AT_ONCE)
    Run(2 * AT_ONCE, meeting).hand_over()
    assert meeting.most == AT_ONCE
