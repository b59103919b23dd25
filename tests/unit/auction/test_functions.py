import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from include.auction.functions import MAX_THROTTLES, OrderFunction, parse_answer
from include.auction.models import OrderOutcome, Orders, Result
from include.clients.lambda_function import FunctionClient
from include.errors import InvalidAnswerError, SettingsError, SettingsUnavailableError
from tests.worlds.functions import FakeLambda, RaisedError, RawLambda, lambda_error

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "FUNCTIONS.md").read_text()
ORDERS = Orders("run", date(2026, 3, 8), ({"status": "accepted"},))
OWN = [
    "ValueError",
    "KeyError",
    "InvalidOrderError",
    "builtins.ValueError",
    "MyMemoryErrorFound",
    "Runtime.HandlerError",
]
NOT_OWN = [
    "",
    "Sandbox.Timedout",
    "Runtime.ExitError",
    "Runtime.ImportModuleError",
    "Function.ResponseSizeTooLarge",
    "Extension.Crash",
    "MemoryError",
    "java.lang.OutOfMemoryError",
    "System.OutOfMemoryException",
    "Function<NoMemoryError>",
    "Init<LoadError>",
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("more", [{}, {"orders": [1]}, {"orders": None}])
def test_answer_without_results_gives_no_orders(more: dict[str, Any]) -> None:
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


LIKE_ANSWERS = st.fixed_dictionaries(
    {"results": st.booleans() | JSON}, optional={"orders": st.lists(JSON, max_size=3) | JSON}
)


@given(JSON | LIKE_ANSWERS)
@example({"results": False})
@example({"results": True, "orders": [{}]})
def test_any_answer_is_orders_or_nothing_or_malformed(answer: Any) -> None:
    try:
        orders = parse_answer(answer)
    except InvalidAnswerError:
        return
    assert orders == (answer["orders"] if answer["results"] else None)


def process(client: FakeLambda, *rejections: str) -> OrderOutcome:
    """One order through Lambda B, with the setting ``rejection_errors``."""
    function = OrderFunction(FunctionClient(client), "b", lambda: rejections, lambda _: None)
    return function.process(ORDERS, 0)


def answering(answer: Any) -> FakeLambda:
    return FakeLambda({"b": lambda order: answer})


def raising(error: Exception) -> FakeLambda:
    def handler(order: Any) -> Any:
        raise error

    return FakeLambda({"b": handler})


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        ({"key": "k", "order_id": "x"}, "k"),
        ({"statusCode": 200, "body": '{"key": "k"}'}, "k"),
        ({"statusCode": 200, "body": {"key": "k"}}, "k"),
        ({"key": "k" * 1024}, "k" * 1024),
        ({"key": "é" * 512}, "é" * 512),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_key_is_taken_where_the_answer_names_one(answer: Any, key: str) -> None:
    outcome = process(answering(answer))
    assert (outcome.result, outcome.key) == (Result.ACCEPTED, key)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "",
        "orders/as/text",
        {},
        {"key": ""},
        {"key": None},
        {"key": 5},
        {"key": None, "body": {"key": "k"}},
        ["k"],
        True,
        {"body": "stored"},
        {"body": "[" * 100_000},
        {"body": '["k"]'},
        {"body": {"body": {"key": "k"}}},
        {"statusCode": 500},
        {"key": "k" * 1025},
        {"key": "é" * 513},
        {"key": "orders/\ud800"},
        {"key": "orders/\x1b[31m"},
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_answer_without_a_usable_key_is_an_accepted_order_without_a_key(answer: Any) -> None:
    outcome = process(answering(answer))
    assert (outcome.result, outcome.key, outcome.reason) == (Result.ACCEPTED, None, None)


@pytest.mark.parametrize("body", [b"", b"stored", b"NaN", b'{"key": "k"', b"\xff"])
def test_answer_that_is_no_json_is_an_accepted_order(body: bytes) -> None:
    assert process(RawLambda(body)).result is Result.ACCEPTED


@given(JSON)
def test_whatever_the_answer_the_order_is_accepted(answer: Any) -> None:
    assert process(answering(answer)).result is Result.ACCEPTED


def test_order_that_is_rejected_is_not_tried_again_and_says_why() -> None:
    outcome = process(raising(RaisedError("OrderRejectedError", "order 7 was rejected")))
    assert (outcome.result, outcome.retryable) == (Result.REJECTED, False)
    assert outcome.reason == "function b raised OrderRejectedError: order 7 was rejected"


@pytest.mark.parametrize("form", ["com.acme.auction.{}", "Function<{}>", "auction::{}"], ids=["Java", "Ruby", "Rust"])
def test_class_of_an_error_counts_in_the_form_of_every_runtime(form: str) -> None:
    assert process(raising(RaisedError(form.format("OrderRejectedError"), "no"))).result is Result.REJECTED
    assert process(raising(RaisedError(form.format("TooCheap"), "no")), "TooCheap").result is Result.REJECTED
    outcome = process(raising(RaisedError(form.format("InvalidOrderError"), "no")))
    assert (outcome.result, outcome.retryable) == (Result.ERRORED, False)


@pytest.mark.parametrize("kind", OWN)
def test_error_of_the_functions_code_is_a_rejection_if_the_setting_names_it(kind: str) -> None:
    error = raising(RaisedError(kind, "no"))
    assert process(error).result is Result.ERRORED
    assert process(error, "OrderRejectedError", kind).result is Result.REJECTED
    assert process(error, "*").result is Result.REJECTED
    assert process(error, kind.lower(), f"{kind}2").result is Result.ERRORED


@pytest.mark.parametrize("kind", NOT_OWN)
def test_time_out_crash_and_out_of_memory_are_no_rejection_whatever_the_setting(kind: str) -> None:
    outcome = process(raising(RaisedError(kind, "2026-03-08T06:00:03Z Task timed out after 3.00 seconds")), "*", kind)
    assert (outcome.result, outcome.retryable) == (Result.ERRORED, True)


def test_control_characters_of_an_error_become_visible_in_the_reason() -> None:
    outcome = process(raising(RaisedError("OrderRejectedError", "no \x1b[31m\x00 \ud800")))
    assert (outcome.reason or "").isprintable()


@pytest.mark.parametrize(("throttles", "accepted"), [(1, True), (MAX_THROTTLES - 1, True), (MAX_THROTTLES, False)])
def test_throttled_call_is_repeated_for_some_seconds_as_the_function_did_not_run(
    throttles: int, accepted: bool
) -> None:
    left, slept = iter(range(throttles)), list[float]()

    def order(payload: Any) -> Any:
        if next(left, None) is not None:
            raise lambda_error("TooManyRequestsException")
        return {"key": "k"}

    client = FakeLambda({"b": order})
    function = OrderFunction(FunctionClient(client), "b", tuple, slept.append)
    outcome = function.process(ORDERS, 0)
    assert (outcome.result is Result.ACCEPTED, outcome.retryable) == (accepted, not accepted)
    assert len(slept) == min(throttles, MAX_THROTTLES - 1)
    assert sum(slept) < 10


def test_throttle_is_no_rejection_whatever_the_setting() -> None:
    outcome = process(raising(lambda_error("TooManyRequestsException")), "*", "TooManyRequestsException")
    assert (outcome.result, outcome.retryable) == (Result.ERRORED, True)


def test_setting_is_read_only_for_an_error_that_may_be_a_rejection() -> None:
    def broken() -> list[str]:
        raise RuntimeError("the settings cannot be read")

    client = raising(RaisedError("OrderRejectedError", "no"))
    function = OrderFunction(FunctionClient(client), "b", broken)
    assert function.process(ORDERS, 0).result is Result.REJECTED


@pytest.mark.parametrize(("error", "retryable"), [(SettingsUnavailableError, True), (SettingsError, False)])
def test_setting_that_cannot_be_read_is_an_error_of_its_order_alone(error: type[Exception], retryable: bool) -> None:
    def broken() -> list[str]:
        raise error("settings: no such Variable")

    client = raising(RaisedError("ValueError", "no"))
    outcome = OrderFunction(FunctionClient(client), "b", broken).process(ORDERS, 0)
    assert (outcome.result, outcome.retryable) == (Result.ERRORED, retryable)
    assert outcome.reason == f"{error.__name__}: settings: no such Variable"


def rows(header: str) -> list[list[str]]:
    """The rows of the page's table with this header."""
    table = PAGE.split(f"\n{header}\n")[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", row.strip("|"))] for row in table]


def examples() -> list[Any]:
    """The handlers of the page, in their order."""
    found = []
    for source in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        names: dict[str, Any] = {}
        exec(source, names)
        found.append(names["handler"])
    return found


def test_page_shows_what_becomes_of_lambda_as_answers() -> None:
    polled = {}
    for answer, does in rows("| answer | what the pipeline does |"):
        try:
            orders = parse_answer(json.loads(answer))
        except InvalidAnswerError:
            polled[does] = "malformed"
        else:
            polled[does] = "not yet" if orders is None else f"{len(orders)} orders"
    assert polled == {
        "polls again": "not yet",
        "the run succeeds without orders": "0 orders",
        "processes the orders": "1 orders",
        "the run fails at once: the answer is malformed": "malformed",
    }
    assert len(parse_answer(examples()[0]({}, None)) or []) == 2


def test_page_shows_which_answers_of_lambda_b_name_a_key() -> None:
    table = rows("| answer | key in the summary |")
    assert len(table) == 6
    for answer, key in table:
        outcome = process(answering(json.loads(answer)))
        assert (outcome.result, outcome.key or "none") == (Result.ACCEPTED, key), answer


def test_page_shows_which_errors_of_lambda_b_are_rejections() -> None:
    table = rows('| error type | by default | with `["ValueError"]` | with `["*"]` |')
    assert len(table) == 8
    for kind, *columns in table:
        for setting, expected in zip(((), ("ValueError",), ("*",)), columns, strict=True):
            outcome = process(raising(RaisedError(kind, "no")), *setting)
            found = (
                "rejected" if outcome.result is Result.REJECTED else "tried again" if outcome.retryable else "failed"
            )
            assert found == expected, (kind, setting)


@pytest.mark.parametrize(
    ("number", "setting", "result"),
    [
        (1, (), Result.ACCEPTED),
        (2, (), Result.REJECTED),
        (3, (), Result.ERRORED),
        (3, ("ValueError",), Result.REJECTED),
    ],
)
def test_examples_of_the_page_run(number: int, setting: list[str], result: Result) -> None:
    handler = examples()[number]

    def as_lambda_runs_it(order: Any) -> Any:
        try:
            return handler(order, None)
        except Exception as error:  # noqa: BLE001 - as the runtime does
            raise RaisedError(type(error).__name__, str(error)) from None

    assert process(FakeLambda({"b": as_lambda_runs_it}), *setting).result is result
