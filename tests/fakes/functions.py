"""Lambda in memory: functions are callables, and what goes wrong is what botocore really raises."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError
from botocore.response import StreamingBody

STATUS = {
    "AccessDeniedException": 403,
    "EC2ThrottledException": 502,
    "InvalidRequestContentException": 400,
    "RequestTooLargeException": 413,
    "ResourceConflictException": 409,
    "ResourceNotFoundException": 404,
    "ServiceException": 500,
    "ThrottlingException": 400,
    "TooManyRequestsException": 429,
    "UnrecognizedClientException": 403,
}


def lambda_error(code: str) -> ClientError:
    """The error that botocore raises when Lambda answers ``code``."""
    return ClientError(
        {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": STATUS[code]}}, "Invoke"
    )


@dataclass
class RaisedError(Exception):
    """Makes a function of the fake end with a function error, as Lambda describes it."""

    kind: str
    message: str


@dataclass
class FakeLambda:
    """Quacks like a boto3 Lambda client.

    ``functions`` maps a name to a callable of the parsed payload: it returns the answer, or raises
    :class:`RaisedError` for a function error, or a botocore error. ``invocations`` are those that reached a function,
    in their order.
    """

    functions: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    invocations: list[tuple[str, Any]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803 - boto3's names
        function = self.functions.get(FunctionName)
        if function is None:
            raise lambda_error("ResourceNotFoundException")
        payload = json.loads(Payload)
        with self._lock:
            self.invocations.append((FunctionName, payload))
        try:
            return _answer(json.dumps(function(payload)).encode())
        except RaisedError as error:
            body = {"errorType": error.kind, "errorMessage": error.message, "stackTrace": ["secret source"]}
            return _answer(json.dumps(body).encode()) | {"FunctionError": "Unhandled"}

    def asked(self, name: str) -> list[Any]:
        """The payloads that reached a function."""
        return [payload for called, payload in self.invocations if called == name]


class RawLambda(FakeLambda):
    """Every function answers these bytes."""

    def __init__(self, body: bytes, **more: Any) -> None:
        super().__init__()
        self.body = body
        self.more = more

    def invoke(self, **request: Any) -> dict[str, Any]:
        return _answer(self.body) | self.more


def _answer(body: bytes) -> dict[str, Any]:
    return {"StatusCode": 200, "Payload": StreamingBody(io.BytesIO(body), len(body))}
