from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.auction.functions import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, OrderFunction, ResultsPoller, pause_before
from include.auction.models import OrderOutcome, Orders, Result, Summary
from include.clients.lambda_function import FunctionClient
from include.errors import (
    FunctionFailedError,
    FunctionRefusedError,
    FunctionUnavailableError,
    InvalidAnswerError,
    StorageRefusedError,
    StorageUnavailableError,
)
from tests.worlds.functions import FakeLambda, RaisedError, RawLambda, lambda_error
from tests.worlds.s3 import FakeS3, raising, s3_error

DAY = date(2026, 3, 8)
NOT_YET = {"results": False}
READY = {"results": True, "orders": [{"status": "accepted"}, {"status": "rejected"}]}


class Stage:
    """Lambda A that says one thing after the other, and a bucket."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.functions = FakeLambda({"a": self._answer})
        self.s3 = FakeS3()

    def poller(self) -> ResultsPoller:
        functions = FunctionClient(self.functions)
        return ResultsPoller(self.s3, functions, "a", "s3://archive/runs/run/orders.json", "run", DAY)

    def _answer(self, payload: Any) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_polls_until_there_are_results_and_saves_them() -> None:
    stage = Stage(NOT_YET, NOT_YET, READY)
    poller = stage.poller()
    assert [poller.poll(), poller.poll()] == [None, None]
    assert stage.s3.keys() == []
    found = poller.poll()
    assert list(found.items) == READY["orders"]
    assert len(stage.functions.invocations) == 3, "one poll is one invocation"
    assert stage.poller().find() == found


def test_nothing_saved_is_nothing_found() -> None:
    assert Stage().poller().find() is None


def test_orders_that_are_gone_are_not_replaced_by_new_ones() -> None:
    """They expire before the summary does; other orders would get their ids, and pass for stored."""
    stage = Stage()
    summary = Summary("run", DAY, (OrderOutcome(0, "id", Result.ACCEPTED, key="k"),))
    summary.save(stage.s3, "archive")
    with pytest.raises(StorageRefusedError, match=r"are gone .* start a new run"):
        stage.poller().find()


def test_run_that_found_nothing_before_may_poll_again() -> None:
    stage = Stage()
    Summary("run", DAY, reason="no results").save(stage.s3, "archive")
    assert stage.poller().find() is None


@pytest.mark.parametrize("power", [b"1e999", b"[" * 100_000 + b"]" * 100_000], ids=["out of range", "deep"])
def test_order_with_what_python_cannot_write_fails_alone(power: bytes) -> None:
    answer = b'{"results": true, "orders": [{"status": "accepted", "power": %b}, {"status": "accepted"}]}' % power
    s3 = FakeS3()
    uri = "s3://archive/runs/run/orders.json"
    ResultsPoller(s3, FunctionClient(RawLambda(answer)), "a", uri, "run", DAY).poll()
    orders = Orders.load(s3, uri)
    b = OrderFunction(FunctionClient(FakeLambda({"b": lambda order: {}})), "b", lambda: ())
    bad, good = (b.process(orders, index) for index in (0, 1))
    assert bad is not None
    assert (bad.result, bad.retryable, good.result) == (Result.ERRORED, False, Result.ACCEPTED)
    assert bad.reason == (
        "InvalidInputError: the input of function b has a number that is out of range, or is nested too deep; "
        "it was not invoked"
    )


def test_function_is_invoked_with_an_empty_object() -> None:
    stage = Stage(NOT_YET)
    stage.poller().poll()
    assert stage.functions.asked("a") == [{}]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (RaisedError("KeyError", "x"), FunctionFailedError),
        (lambda_error("TooManyRequestsException"), FunctionUnavailableError),
        (lambda_error("ResourceNotFoundException"), FunctionRefusedError),
    ],
)
def test_errors_of_the_invocation_pass(answer: Exception, error: type[Exception]) -> None:
    with pytest.raises(error):
        Stage(answer).poller().poll()


def test_malformed_answer_names_the_function() -> None:
    with pytest.raises(InvalidAnswerError, match="function a: the answer has no field 'results'"):
        Stage({}).poller().poll()


def test_orders_that_could_not_be_saved_are_not_asked_for_again() -> None:
    stage = Stage(READY)
    poller = stage.poller()
    stage.s3.before["PutObject"] = raising(s3_error("SlowDown"))
    assert not poller.holds_orders
    for _ in range(2):
        with pytest.raises(StorageUnavailableError):
            poller.poll()
        assert poller.holds_orders
    stage.s3.before.clear()
    assert poller.poll() is not None
    assert len(stage.functions.invocations) == 1


def test_of_two_pollers_the_first_to_save_wins() -> None:
    stage = Stage(READY, {"results": True, "orders": []})
    first, second = stage.poller().poll(), stage.poller().poll()
    assert first == second
    assert len(first.items) == 2


def test_pauses_grow_to_their_limit() -> None:
    pauses = [pause_before(poll) for poll in range(2, 100)]
    assert pauses[:4] == [FIRST_PAUSE_SECONDS, 3.0, 3.0, 3.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_PAUSE_SECONDS


@given(st.integers(2, 10**9))
def test_any_pause_is_between_the_first_and_the_limit(poll: int) -> None:
    assert FIRST_PAUSE_SECONDS <= pause_before(poll) <= MAX_PAUSE_SECONDS
