import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from hypothesis import given
from hypothesis import strategies as st

from include.clients.lambda_function import FunctionClient
from include.errors import (
    FunctionFailedError,
    FunctionRefusedError,
    FunctionUnavailableError,
    InvalidAnswerError,
    InvalidInputError,
    PipelineError,
)
from tests.worlds.functions import STATUS, FakeLambda, RaisedError, RawLambda, lambda_error
from tests.worlds.pipeline import PLANTED, leaks
from tests.worlds.s3 import raising

URL = "https://lambda.test"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def client(fake: FakeLambda) -> FunctionClient:
    return FunctionClient(fake)


def invoke(function: Callable[[Any], Any]) -> Any:
    return client(FakeLambda({"f": function})).invoke("f", {"n": 1})


@given(JSON)
def test_what_goes_in_comes_out(value: Any) -> None:
    assert client(FakeLambda({"f": lambda payload: payload})).invoke("f", {"value": value}) == {"value": value}


def test_one_call_is_one_invocation() -> None:
    fake = FakeLambda({"f": raising(ReadTimeoutError(endpoint_url=URL))})
    with pytest.raises(FunctionUnavailableError):
        client(fake).invoke("f", {})
    assert len(fake.invocations) == 1


@pytest.mark.parametrize(
    "error",
    [
        *map(
            lambda_error,
            [
                "TooManyRequestsException",
                "ThrottlingException",
                "ServiceException",
                "EC2ThrottledException",
                "ResourceConflictException",
            ],
        ),
        ReadTimeoutError(endpoint_url=URL),
        ConnectTimeoutError(endpoint_url=URL),
        ConnectionClosedError(endpoint_url=URL),
        EndpointConnectionError(endpoint_url=URL),
        ResponseStreamingError(error="cut"),
    ],
    ids=str,
)
def test_what_may_work_later_is_transient(error: Exception) -> None:
    with pytest.raises(FunctionUnavailableError, match="cannot invoke function f: "):
        invoke(raising(error))


@pytest.mark.parametrize(
    "error",
    [
        *map(
            lambda_error,
            [
                "AccessDeniedException",
                "InvalidRequestContentException",
                "RequestTooLargeException",
                "ResourceNotFoundException",
                "UnrecognizedClientException",
            ],
        ),
        NoCredentialsError(),
    ],
    ids=str,
)
def test_what_lambda_refuses_is_permanent(error: Exception) -> None:
    with pytest.raises(FunctionRefusedError, match="cannot invoke function f"):
        invoke(raising(error))


def test_every_error_of_the_fake_is_in_one_of_the_tables() -> None:
    for code in STATUS:
        with pytest.raises((FunctionUnavailableError, FunctionRefusedError)):
            invoke(raising(lambda_error(code)))


def test_name_that_boto_itself_refuses_is_permanent() -> None:
    real = boto3.client("lambda", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    with pytest.raises(FunctionRefusedError, match="check its name"):
        FunctionClient(real).invoke("", {})


@pytest.mark.parametrize(
    ("kind", "message", "error_type", "text"),
    [
        ("KeyError", "'power'", "KeyError", "function f raised KeyError: 'power'"),
        ("MineError", "MineError: no", "MineError", "function f raised MineError: no"),
        ("Runtime.HandlerError", "MineError: no", "MineError", "function f raised MineError: no"),
        (
            "Runtime.HandlerError",
            "it broke",
            "Runtime.HandlerError",
            "function f raised Runtime.HandlerError: it broke",
        ),
        (
            "Runtime.HandlerError",
            "Worker process died",
            "Runtime.ExitError",
            "function f raised Runtime.ExitError: Worker process died",
        ),
        ("KeyError", "MineError: no", "KeyError", "function f raised KeyError: MineError: no"),
        ("Sandbox.Timedout", "", "Sandbox.Timedout", "function f raised Sandbox.Timedout"),
    ],
)
def test_function_error_has_a_type_and_a_reason(kind: str, message: str, error_type: str, text: str) -> None:
    with pytest.raises(FunctionFailedError) as caught:
        invoke(raising(RaisedError(kind, message)))
    assert caught.value.error_type == error_type
    assert str(caught.value) == text


def test_control_characters_of_a_function_are_visible() -> None:
    with pytest.raises(FunctionFailedError, match=r"raised StockError: empty\\x01 shelf\\x1b\[0m$"):
        invoke(raising(RaisedError("StockError", "empty\x01 shelf\x1b[0m")))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"errorType": 5}', b"\xff", b"[" * 100_000])
def test_function_error_without_a_description_is_one_all_the_same(body: bytes) -> None:
    with pytest.raises(FunctionFailedError, match="function f raised an error without a name") as caught:
        client(RawLambda(body, FunctionError="Unhandled")).invoke("f", {})
    assert caught.value.error_type == ""


def test_function_error_is_one_short_line_without_stack_trace() -> None:
    with pytest.raises(FunctionFailedError) as caught:
        invoke(raising(RaisedError("MineError", "first\nsecond\ud800 " + "x" * 10_000)))
    text = str(caught.value)
    assert text.startswith("function f raised MineError: first second\\ud800 xxx")
    assert len(text) < 500
    assert "\n" not in text
    assert "secret source" not in text
    text.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        PLANTED.encode(),
        repr({"secret": PLANTED}).encode(),
        b"\xff" + quote(PLANTED).encode(),
        b"[%b," % json.dumps(PLANTED).encode() * 99_999,
    ],
    ids=["empty", "text", "repr", "no UTF-8", "too deep"],
)
def test_answer_that_is_not_json_is_refused_and_not_quoted(body: bytes) -> None:
    with pytest.raises(InvalidAnswerError, match=r"function f answered what is not JSON \(\w+, \d+ bytes\)") as caught:
        client(RawLambda(body)).invoke("f", {})
    assert leaks(str(caught.value), PLANTED) == []
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__, "the decoder's error holds the whole answer"


def test_answer_that_breaks_off_is_transient() -> None:
    class Cut(FakeLambda):
        def invoke(self, **request: Any) -> dict[str, Any]:
            class Body:
                def read(self) -> bytes:
                    raise ReadTimeoutError(endpoint_url=URL)

            return {"Payload": Body()}

    with pytest.raises(FunctionUnavailableError, match="ReadTimeoutError"):
        client(Cut()).invoke("f", {})


@pytest.mark.parametrize("error", [lambda_error("ServiceException"), RaisedError("MineError", "no")], ids=str)
def test_payload_is_in_no_error(error: Exception) -> None:
    with pytest.raises(PipelineError) as caught:
        client(FakeLambda({"f": raising(error)})).invoke("f", {"secret": PLANTED})
    assert leaks(str(caught.value), PLANTED) == []


def test_payload_is_json_as_it_is() -> None:
    fake = FakeLambda({"f": lambda payload: None})
    payload = {"amount": 2.1, "big": 10**30, "text": "Zażółć \ud800", "none": None}
    client(fake).invoke("f", payload)
    assert fake.asked("f") == [json.loads(json.dumps(payload))] == [payload]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "-Infinity", "9" * 5_000])
def test_number_out_of_range_is_read_and_never_sent(number: str) -> None:
    found = client(RawLambda(b'[{"n": %b}, {"n": 1}]' % number.encode())).invoke("f", {})
    assert found[1] == {"n": 1}
    fake = FakeLambda({"f": lambda payload: None})
    with pytest.raises(InvalidInputError, match="input of function f has a number that is out of range"):
        client(fake).invoke("f", found[0])
    assert fake.invocations == []


def test_check_invokes_nothing_and_names_a_function_that_is_not_there() -> None:
    functions = FakeLambda({"f": raising(RaisedError("MineError", "no"))})
    client(functions).check("f")
    with pytest.raises(FunctionRefusedError, match="invoke function g"):
        client(functions).check("g")
    assert functions.invocations == []
