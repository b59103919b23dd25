"""Lambda functions, called so that one invocation is one invocation, with a typed error for every way it can fail."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from include.clients.aws import aws_errors, error_code
from include.errors import (
    FunctionFailedError,
    FunctionRefusedError,
    FunctionThrottledError,
    FunctionUnavailableError,
    InvalidAnswerError,
    InvalidInputError,
)
from include.text import one_line, shallow_json

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

READ_TIMEOUT_SECONDS = 65
"""Longer than our functions may run (30 s): an answer that is on its way must not be given up and asked for again."""

CONNECT_TIMEOUT_SECONDS = 5

_MAX_REASON = 300

_THROTTLED = frozenset({"TooManyRequestsException"})

HANDLER_ERROR = "Runtime.HandlerError"
"""What a runtime that hands on nothing but the message calls every error of a handler (the local emulator does)."""

_DIED = frozenset({"Worker process died", "Worker returned no response"})
"""The local emulator's messages for a function whose process has ended, which it calls an error of the handler too."""

_NAMED = re.compile(r"(?P<kind>\w+Error): ", re.ASCII)


class FunctionClient:
    """Invokes functions and waits for their answers.

    Its boto3 client does not repeat calls by itself, waits for longer than the functions may run (see
    :data:`READ_TIMEOUT_SECONDS`), and holds a connection for each invocation at once.
    """

    def __init__(self, client: LambdaClient) -> None:
        self._client = client

    def invoke(self, name: str, payload: Mapping[str, Any]) -> Any:
        """Invoke a function once; returns its answer, parsed.

        Raises:
            FunctionFailedError: the function raised an error, crashed or ran out of time.
            FunctionThrottledError: throttled; it did not run.
            FunctionUnavailableError: a failure of Lambda itself, or no answer; it may have run.
            FunctionRefusedError: no such function, no permission, too large a request.
            InvalidAnswerError: the answer is not JSON.
            InvalidInputError: the payload has a number that JSON has not: infinity, which stands for what is nested too
                deep, too; it was not invoked.
        """
        try:
            sent = json.dumps(payload, allow_nan=False).encode()
        except ValueError:
            raise InvalidInputError(
                f"the input of function {name} has a number that is out of range, or is nested too deep; "
                "it was not invoked"
            ) from None
        with _errors(name):
            try:
                answer = self._client.invoke(FunctionName=name, Payload=sent)
            except ClientError as error:
                if (code := error_code(error)) in _THROTTLED:
                    raise FunctionThrottledError(f"cannot invoke function {name}: Lambda answered {code}") from error
                raise
            body = answer["Payload"].read()
        if answer.get("FunctionError"):
            raise _failure(body, name)
        try:
            # A number out of range or deep nesting is not to cost the whole answer: it is infinite then.
            return json.loads(shallow_json(body), parse_int=_integer)
        except ValueError as error:
            # Not chained: the decoder's error holds the whole answer.
            raise InvalidAnswerError(
                f"function {name} answered what is not JSON ({type(error).__name__}, {len(body)} bytes)"
            ) from None

    def check(self, name: str) -> None:
        """Raise what :meth:`invoke` would for a function that cannot be invoked now; it is not invoked."""
        with _errors(name):
            self._client.invoke(FunctionName=name, InvocationType="DryRun")


def _errors(name: str) -> AbstractContextManager[None]:
    return aws_errors(
        "Lambda",
        f"invoke function {name}",
        unavailable=FunctionUnavailableError,
        refused=FunctionRefusedError,
        check="its name",
    )


def _failure(body: bytes, name: str) -> FunctionFailedError:
    """The error that a function ended with: its type and message, never its stack trace."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    found = document if isinstance(document, dict) else {}
    kind, reason = _shown(found.get("errorType")), _shown(found.get("errorMessage"))
    if kind == HANDLER_ERROR and (named := _NAMED.match(reason)):
        kind = named["kind"]
    elif kind == HANDLER_ERROR and reason in _DIED:
        kind = "Runtime.ExitError"
    # Functions that reckon with such runtimes begin their messages with the class's name.
    reason = reason.removeprefix(f"{kind}: ")
    text = ": ".join(part for part in (kind, reason) if part) or "an error without a name"
    return FunctionFailedError(f"function {name} raised {text}", error_type=kind)


def _shown(value: object) -> str:
    """A function's own words, printable, on one short line."""
    return one_line(value, _MAX_REASON) if isinstance(value, str) else ""


def _integer(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        # Python reads no more than 4,300 digits.
        return float(text)
