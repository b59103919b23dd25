"""Invocations of real functions, counted where they arrive."""

import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from include.auction.models import Orders
from include.clients.lambda_function import CONNECT_TIMEOUT_SECONDS, HANDLER_ERROR, FunctionClient
from include.errors import FunctionFailedError, FunctionRefusedError, FunctionUnavailableError, InvalidInputError
from tests.integration.conftest import Aws
from tests.worlds.functions import AdHocFunction

Make = Callable[..., AdHocFunction]
ORDERS = Orders(
    "test_function_client", date(2026, 3, 8), ({"status": "accepted", "power": 2.1}, {"order": "rejected"}, {})
)


@pytest.fixture
def make(aws: Aws, tmp_path: Path) -> Make:
    """Makes a function of Python source."""

    def make(source: str, **options: Any) -> AdHocFunction:
        return AdHocFunction(aws.functions, tmp_path, source, **options)

    return make


def client(aws: Aws, *, read_timeout: float) -> FunctionClient:
    """A client as the tasks make it (airflow_ext.hooks.aws), less patient."""
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    return FunctionClient(aws.session().client("lambda", endpoint_url=aws.endpoint, config=config))


@pytest.fixture
def functions(aws: Aws) -> FunctionClient:
    # On a busy machine, a function may take seconds to start.
    return client(aws, read_timeout=60)


def test_answer_is_what_the_function_returned(make: Make, functions: FunctionClient) -> None:
    echo = make("def handler(event, context):\n    note(event)\n    return event")
    payload = {"amount": 2.1, "big": 10**20, "text": "Zażółć", "nested": [None, True]}
    assert functions.invoke(echo.name, payload) == payload
    assert [call["event"] for call in echo.calls()] == [payload]


def test_answer_that_takes_too_long_was_one_invocation(make: Make, aws: Aws) -> None:
    slow = make("def handler(event, context):\n    note(event)\n    time.sleep(4)\n    note('end')", timeout=60)
    with pytest.raises(FunctionUnavailableError, match="ReadTimeoutError"):
        client(aws, read_timeout=2).invoke(slow.name, {"first": True})
    deadline = time.monotonic() + 60
    while "end" not in [call["event"] for call in slow.calls()]:
        assert time.monotonic() < deadline, slow.calls()
        time.sleep(0.1)
    assert [call["event"] for call in slow.calls()] == [{"first": True}, "end"], "asked once, although nobody waited"


def test_check_runs_no_function(make: Make, functions: FunctionClient) -> None:
    echo = make("def handler(event, context):\n    note(event)\n    return event")
    functions.check(echo.name)
    assert echo.calls() == []
    with pytest.raises(FunctionRefusedError):
        functions.check(f"{echo.name}-gone")


def test_number_that_json_has_not_is_read_and_not_sent(make: Make, functions: FunctionClient) -> None:
    # Lambda writes the answer as Python's json module does, which knows more numbers than JSON has.
    odd = make("def handler(event, context):\n    note(event)\n    return {'power': float('nan')}")
    found = functions.invoke(odd.name, {})
    with pytest.raises(InvalidInputError):
        functions.invoke(odd.name, found)
    assert len(odd.calls()) == 1


@pytest.mark.parametrize(
    ("does", "error_type"),
    [("raise ValueError('the price is too low')", HANDLER_ERROR), ("os._exit(1)", "Runtime.ExitError")],
    ids=["raises", "dies"],
)
def test_error_of_a_handler_is_reported_from_the_end_of_its_process(
    make: Make, functions: FunctionClient, does: str, error_type: str
) -> None:
    function = make(f"import os\ndef handler(event, context):\n    {does}")
    with pytest.raises(FunctionFailedError) as caught:
        functions.invoke(function.name, {})
    assert caught.value.error_type == error_type


def test_refusals_of_the_real_function_are_known_by_their_type(
    functions: FunctionClient, outputs: Mapping[str, str]
) -> None:
    name = outputs["AuctionOrderFunctionName"]
    accepted = functions.invoke(name, ORDERS.payload(0) or {})
    assert accepted == {"order_id": ORDERS.id_of(0), "key": f"orders/2026/03/08/order_{ORDERS.id_of(0)}.json"}
    with pytest.raises(FunctionFailedError, match="was rejected") as rejected:
        functions.invoke(name, ORDERS.payload(1) or {})
    assert rejected.value.error_type == "OrderRejectedError"
    with pytest.raises(FunctionFailedError, match="has no status") as invalid:
        functions.invoke(name, ORDERS.payload(2) or {})
    assert invalid.value.error_type == "InvalidOrderError"
