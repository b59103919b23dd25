import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from tests.worlds.s3 import FakeS3, raising, s3_error

LoadHandler = Callable[..., ModuleType]
Divert = Callable[[ModuleType], io.StringIO]

RESULTS = "lambdas.auction.results_handler"
ORDER = "lambdas.auction.order_handler"
BUCKET = "order-results"
KEY = "orders/2026/03/08/order_abc.json"
ACCEPTED = {"order_id": "abc", "order_date": "2026-03-08", "status": "accepted", "power": 1}


class MortalS3(FakeS3):
    """S3 whose first answer never arrives: the function is killed after its write."""

    def put_object(self, **request: Any) -> dict[str, Any]:
        answer = super().put_object(**request)
        if self.calls["PutObject"] == 1:
            raise ReadTimeoutError(endpoint_url="https://s3.invalid")
        return answer


@pytest.fixture
def s3(aws: dict[str, Any]) -> FakeS3:
    aws["s3"] = FakeS3(BUCKET)
    return aws["s3"]


@pytest.fixture
def order_function(load: LoadHandler, s3: FakeS3) -> ModuleType:
    return load(ORDER, ORDER_RESULTS_BUCKET=BUCKET)


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_results_come_in_the_sequence_of_the_seed(load: LoadHandler, context: object) -> None:
    settings = {"RESULTS_PROBABILITY": "0.5", "MAX_ORDERS": "3", "SEED": "7"}
    warm = load(RESULTS, **settings)
    first = [warm.handler({}, context) for _ in range(20)]
    assert {answer["results"] for answer in first} == {False, True}
    again = load(RESULTS, **settings)
    assert [again.handler(None, context) for _ in range(20)] == first


@pytest.mark.parametrize("seed", [{}, {"SEED": ""}], ids=["absent", "empty"])
def test_results_without_a_seed_differ_between_warm_starts(
    load: LoadHandler, context: object, seed: Mapping[str, str]
) -> None:
    starts = [load(RESULTS, RESULTS_PROBABILITY="1", MAX_ORDERS="100", **seed) for _ in range(2)]
    first, second = ([start.handler({}, context) for _ in range(5)] for start in starts)
    assert first != second


def test_one_variable_alone_steers_the_results(load: LoadHandler, context: object) -> None:
    found = [load(RESULTS, RESULTS_PROBABILITY="1").handler({}, context) for _ in range(20)]
    assert all(answer["results"] and len(answer["orders"]) <= 10 for answer in found)


@pytest.mark.parametrize(
    ("module", "environment", "named"),
    [
        (RESULTS, {"RESULTS_PROBABILITY": "1.01", "MAX_ORDERS": "3"}, "RESULTS_PROBABILITY"),
        (RESULTS, {"RESULTS_PROBABILITY": "nan", "MAX_ORDERS": "3"}, "RESULTS_PROBABILITY"),
        (RESULTS, {"RESULTS_PROBABILITY": "0.3", "MAX_ORDERS": "0"}, "MAX_ORDERS"),
        (RESULTS, {"RESULTS_PROBABILITY": "0.3", "MAX_ORDERS": "2.5"}, "MAX_ORDERS"),
        (RESULTS, {"RESULTS_PROBABILITY": "0.3", "MAX_ORDERS": "10001"}, "MAX_ORDERS"),
        (ORDER, {}, "ORDER_RESULTS_BUCKET"),
        (ORDER, {"ORDER_RESULTS_BUCKET": ""}, "ORDER_RESULTS_BUCKET"),
    ],
)
def test_malformed_environment_is_named_while_the_function_starts(
    load: LoadHandler, module: str, environment: Mapping[str, str], named: str
) -> None:
    with pytest.raises(Exception, match=named) as caught:
        load(module, **environment)
    assert type(caught.value).__name__ == "EnvironmentVariableError"


def test_accepted_order_is_stored_and_its_key_returned(order_function: ModuleType, s3: FakeS3, context: object) -> None:
    assert order_function.handler(ACCEPTED, context) == {"order_id": "abc", "key": KEY}
    (body,) = s3.bodies(KEY)
    assert json.loads(body or b"") == ACCEPTED


def test_order_sent_by_hand_lies_under_the_request_id_and_today(
    order_function: ModuleType, s3: FakeS3, context: Any
) -> None:
    before = datetime.now(UTC)
    answer = order_function.handler({"order": "accepted"}, context)
    days = {moment.strftime("%Y/%m/%d") for moment in (before, datetime.now(UTC))}
    assert answer["order_id"] == context.aws_request_id
    assert answer["key"] in {f"orders/{day}/order_{context.aws_request_id}.json" for day in days}
    assert s3.keys() == [answer["key"]]


def test_same_order_twice_is_one_object_with_one_key(order_function: ModuleType, s3: FakeS3, context: object) -> None:
    answers = [order_function.handler(ACCEPTED, context) for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(s3.objects[KEY]) == 1


def test_call_killed_after_its_write_is_made_good_by_the_next(
    load: LoadHandler, aws: dict[str, Any], context: object
) -> None:
    aws["s3"] = s3 = MortalS3(BUCKET)
    order_function = load(ORDER, ORDER_RESULTS_BUCKET=BUCKET)
    with pytest.raises(ReadTimeoutError):
        order_function.handler(ACCEPTED, context)
    assert order_function.handler(ACCEPTED, context) == {"order_id": "abc", "key": KEY}
    assert len(s3.objects[KEY]) == 1


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ({**ACCEPTED, "status": "rejected"}, "OrderRejectedError"),
        ({**ACCEPTED, "status": "pending"}, "InvalidOrderError"),
        ({"order_id": "abc"}, "InvalidOrderError"),
        ("accepted", "InvalidOrderError"),
    ],
    ids=["rejected", "unknown", "missing", "no object"],
)
def test_order_that_is_refused_is_not_stored(
    order_function: ModuleType, s3: FakeS3, context: object, order: object, error: str
) -> None:
    with pytest.raises(Exception, match=f"^{error}: ") as caught:
        order_function.handler(order, context)
    # Lambda makes this the errorType of its answer.
    assert type(caught.value).__name__ == error
    assert s3.calls == {}


def test_failure_of_the_store_is_neither_of_the_two(order_function: ModuleType, s3: FakeS3, context: object) -> None:
    s3.before["PutObject"] = raising(s3_error("SlowDown"))
    with pytest.raises(ClientError, match="SlowDown"):
        order_function.handler(ACCEPTED, context)


@pytest.mark.parametrize("status", ["accepted", "rejected", "planted-secret"])
def test_log_holds_ids_and_no_payload(
    order_function: ModuleType, s3: FakeS3, context: Any, log: Divert, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setenv("POWERTOOLS_LOGGER_LOG_EVENT", "true")
    output = log(order_function)
    order = {**ACCEPTED, "status": status, "note": "planted-secret"}
    message = ""
    try:
        order_function.handler(order, context)
    except order_function.OrderError as error:
        # The runtime logs it.
        message = str(error)
    (line,) = lines(output)
    assert "planted-secret" not in message + json.dumps(line)
    assert line["function_request_id"] == context.aws_request_id
    assert (line.get("order_id"), line.get("anew")) == (("abc", True) if status == "accepted" else (None, None))


def test_log_of_results_counts_the_orders(load: LoadHandler, context: object, log: Divert) -> None:
    function = load(RESULTS, RESULTS_PROBABILITY="1", MAX_ORDERS="3", SEED="7")
    output = log(function)
    answer = function.handler({"note": "planted-secret"}, context)
    (line,) = lines(output)
    assert (line["results"], line["orders"]) == (True, len(answer["orders"]))
    assert "planted-secret" not in json.dumps(line)
    assert "power" not in json.dumps(line)


def test_functions_load_nothing_that_they_do_not_need(imports: Callable[..., set[str]]) -> None:
    """Each module costs at every cold start; boto3 alone a tenth of this function's."""
    loaded = imports(ORDER, ORDER_RESULTS_BUCKET=BUCKET)
    assert {"botocore", "aws_lambda_powertools"} <= loaded
    assert loaded.isdisjoint({"boto3", "pydantic", "s3transfer", "requests", "httpx"})
