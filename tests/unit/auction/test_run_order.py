import threading
from collections import Counter
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.auction.deadlines import LAST_ANSWER, LAST_ORDER, RunDeadlines
from include.auction.functions import OrderFunction
from include.auction.models import OrderOutcome, Orders, Result
from include.auction.run import TIME_UP, give
from include.clients.lambda_function import FunctionClient
from include.errors import StorageUnavailableError
from include.mapped_work import OutcomeFile
from tests.worlds.functions import FakeLambda, Meeting, RaisedError, lambda_error
from tests.worlds.s3 import FakeS3, raising, s3_error

KEY = "runs/run/outcomes/000000.json"
UNAVAILABLE = lambda_error("ServiceException")
REJECTED = RaisedError("OrderRejectedError", "OrderRejectedError: order x was rejected")
INVALID = RaisedError("InvalidOrderError", "InvalidOrderError: order x has no status")


class Task:
    """One task's orders, in a run that is ``age`` seconds old.

    ``says`` maps an order's index to what Lambda B does with it, one call after the other.
    """

    def __init__(self, count: int, says: dict[int, list[Any]] | None = None, **options: Any) -> None:
        self.orders = Orders("run", date(2026, 3, 8), tuple({"n": n} for n in range(count)))
        self.says = says or {}
        self.options = {"concurrency": 4} | options
        self.age = 0.0
        self.now: Callable[[], float] = lambda: self.age
        self.functions = FakeLambda({"b": self._order})
        self.s3 = FakeS3()

    def process(self, *, clear_number: int = 0) -> list[OrderOutcome]:
        file = OutcomeFile(OrderOutcome, self.s3, "archive", KEY, clear_number=clear_number)
        function = OrderFunction(FunctionClient(self.functions), "b", tuple, lambda _: None)
        deadlines = RunDeadlines(0.0, self.now)
        indexes = range(len(self.orders.items))
        return give(self.orders, indexes, function, file, deadlines=deadlines, **self.options)

    @property
    def asked(self) -> Counter[int]:
        return Counter(payload["n"] for payload in self.functions.asked("b"))

    def _order(self, order: Any) -> Any:
        answers = self.says.get(order["n"], [])
        answer = answers.pop(0) if answers else {"key": f"orders/{order['n']}"}
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_every_order_has_an_outcome_in_its_place() -> None:
    task = Task(4, {1: [REJECTED], 2: [INVALID], 3: [UNAVAILABLE]})
    outcomes = task.process()
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3]
    assert [outcome.order_id for outcome in outcomes] == [task.orders.id_of(n) for n in range(4)]
    assert [(outcome.result, outcome.retryable) for outcome in outcomes] == [
        (Result.ACCEPTED, False),
        (Result.REJECTED, False),
        (Result.ERRORED, False),
        (Result.ERRORED, True),
    ]
    assert [outcome.key for outcome in outcomes] == ["orders/0", None, None, None]
    assert outcomes[1].reason == "function b raised OrderRejectedError: order x was rejected"
    assert "ServiceException" in (outcomes[3].reason or "")


@pytest.mark.parametrize("order", [None, 5, "accepted", []])
def test_order_that_is_no_object_fails_by_itself(order: Any) -> None:
    task = Task(2)
    task.orders = Orders("run", task.orders.day, (order, {"n": 1}))
    first, second = task.process()
    assert (first.result, first.retryable, second.result) == (Result.ERRORED, False, Result.ACCEPTED)
    assert "InvalidOrderError: the order is not an object" in (first.reason or "")
    assert task.asked == {1: 1}


def test_retry_gives_only_those_for_which_it_may_succeed_to_the_function() -> None:
    task = Task(4, {1: [REJECTED], 2: [INVALID], 3: [UNAVAILABLE, RaisedError("Sandbox.Timedout", "")]})
    results = [[outcome.result.value for outcome in task.process()] for _ in range(4)]
    assert results == [["accepted", "rejected", "errored", last] for last in ("errored", "errored", *["accepted"] * 2)]
    assert task.asked == {0: 1, 1: 1, 2: 1, 3: 3}


def test_cleared_task_gives_all_to_the_function_again() -> None:
    task = Task(2, {1: [REJECTED]})
    task.process()
    assert [outcome.result.value for outcome in task.process(clear_number=1)] == ["accepted", "accepted"]
    assert task.asked == {0: 2, 1: 2}


@pytest.mark.parametrize("age", [0.0, LAST_ORDER])
def test_order_that_was_accepted_stays_so_whatever_a_cleared_task_brings(age: float) -> None:
    task = Task(2, {0: [{"key": "k"}, REJECTED], 1: [UNAVAILABLE, UNAVAILABLE]})
    task.process()
    task.age = age
    first, second = task.process(clear_number=1)
    assert (first.result, first.key, second.result) == (Result.ACCEPTED, "k", Result.ERRORED)
    assert task.process(clear_number=1)[0] == first, "also at a retry"


def test_unexpected_error_fails_one_order_and_a_retry_may_help(caplog: pytest.LogCaptureFixture) -> None:
    first, second = Task(2, {0: [ZeroDivisionError("secret")]}).process()
    assert (first.result, first.retryable, second.result) == (Result.ERRORED, True, Result.ACCEPTED)
    assert first.reason == "unexpected ZeroDivisionError, see the log"
    assert "unexpected failure of order 0" in caplog.text


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_invocations_at_once_than_allowed(concurrency: int) -> None:
    meeting, task = Meeting(concurrency), Task(6, concurrency=concurrency)
    task.functions.functions["b"] = meeting
    assert {outcome.result for outcome in task.process()} == {Result.ACCEPTED}
    assert meeting.most == concurrency


def test_long_group_keeps_what_it_has_now_and_then() -> None:
    task = Task(2, concurrency=1, save_every=0.01)
    kept = threading.Event()
    task.s3.before["PutObject"] = lambda request: kept.set() if b'"index":0' in request["Body"] else None
    real = task.functions.functions["b"]

    def order(payload: Any) -> Any:
        assert payload["n"] == 0 or kept.wait(60), "the first order is kept while the second is processed"
        return real(payload)

    task.functions.functions["b"] = order
    assert {outcome.result for outcome in task.process()} == {Result.ACCEPTED}


@given(st.integers(1, 12), st.data(), st.sets(st.integers(0, 11)))
def test_killed_group_decides_each_order_once_that_it_has_kept(count: int, data: st.DataObject, bad: set[int]) -> None:
    """The task is told to end while an order is with Lambda B; its retry goes on from what was kept."""
    kill_at = data.draw(st.integers(0, count - 1))
    task = Task(count, {n: [REJECTED] * 9 for n in bad}, concurrency=1, save_every=0.001)
    real = task.functions.functions["b"]
    begun, killed = threading.Event(), threading.Event()

    def order(payload: Any) -> Any:
        if payload["n"] == kill_at and not begun.is_set():
            begun.set()
            assert killed.wait(60)
        return real(payload)

    def now() -> float:
        if begun.is_set() and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return 0.0

    task.functions.functions["b"] = order
    task.now = now
    with pytest.raises(KeyboardInterrupt):
        task.process()
    killed.set()
    task.now = lambda: 0.0
    results = [outcome.result for outcome in task.process()]
    assert results == [Result.REJECTED if n in bad else Result.ACCEPTED for n in range(count)]
    # The one that was with Lambda B when the task died is given to it again, and stored once by its id.
    assert task.asked == {n: 1 + (n == kill_at) for n in range(count)}


def test_outcomes_that_cannot_be_kept_fail_the_task() -> None:
    task = Task(1)
    task.s3.before["PutObject"] = raising(s3_error("SlowDown"))
    with pytest.raises(StorageUnavailableError):
        task.process()


def test_no_order_begins_when_the_runs_time_is_up() -> None:
    task = Task(3)
    task.age = LAST_ORDER
    outcomes = task.process()
    assert [(outcome.result, outcome.reason, outcome.retryable) for outcome in outcomes] == [
        (Result.ERRORED, TIME_UP, False)
    ] * 3
    assert task.asked == {}


def test_retry_that_comes_too_late_keeps_what_is_settled_and_why_the_rest_is_not() -> None:
    task = Task(3, {1: [REJECTED], 2: [UNAVAILABLE]})
    task.process()
    task.age = LAST_ORDER
    for _ in range(2):
        accepted, rejected, failed = task.process()
        assert (accepted.result, rejected.result) == (Result.ACCEPTED, Result.REJECTED)
        assert (failed.result, failed.retryable) == (Result.ERRORED, False)
        assert "ServiceException" in (failed.reason or "")
        assert (failed.reason or "").count(TIME_UP) == 1
    assert task.asked == {0: 1, 1: 1, 2: 1}


def test_failure_after_which_a_retry_would_come_too_late_is_final() -> None:
    task = Task(1)

    def slow(payload: Any) -> Any:
        task.age = LAST_ORDER
        raise UNAVAILABLE

    task.functions.functions["b"] = slow
    (outcome,) = task.process()
    assert not outcome.retryable
    assert TIME_UP in (outcome.reason or "")


def test_throttled_order_is_not_given_again_when_the_runs_time_is_up() -> None:
    task = Task(1)

    def throttled(payload: Any) -> Any:
        task.age = LAST_ORDER
        raise lambda_error("TooManyRequestsException")

    task.functions.functions["b"] = throttled
    (outcome,) = task.process()
    assert task.asked == {0: 1}
    assert "TooManyRequestsException" in (outcome.reason or "")
    assert TIME_UP in (outcome.reason or "")


def test_answers_are_not_waited_for_when_the_runs_time_is_up() -> None:
    task = Task(4, concurrency=2, save_every=0.01)
    done, real = threading.Event(), task.functions.functions["b"]

    def order(payload: Any) -> Any:
        if payload["n"] == 1:
            task.age = LAST_ANSWER
            assert done.wait(60), "the task waits for an answer that comes too late"
        return real(payload)

    task.functions.functions["b"] = order
    outcomes = task.process()
    done.set()
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3]
    late = outcomes[1]
    assert (late.result, late.reason, late.retryable) == (Result.ERRORED, TIME_UP, False)
    assert not any(outcome.retryable for outcome in outcomes)
    assert TIME_UP.encode() in (task.s3.bodies(KEY)[-1] or b""), "the summary is to know"


def test_last_moment_is_not_as_long_as_the_pause_between_two_saves() -> None:
    task, done, looking = Task(1, save_every=3600), threading.Event(), threading.current_thread()
    looks = iter([LAST_ANSWER - 0.01])

    def order(payload: Any) -> Any:
        done.wait(60)
        return {"key": "late"}

    task.functions.functions["b"] = order
    task.now = lambda: next(looks, LAST_ANSWER) if threading.current_thread() is looking else 0.0
    (outcome,) = task.process()
    done.set()
    assert (outcome.result, outcome.reason) == (Result.ERRORED, TIME_UP)
