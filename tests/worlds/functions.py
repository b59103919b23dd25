"""Lambda functions: in memory as callables that fail as botocore does, and on the emulator, made of Python source."""

from __future__ import annotations

import io
import itertools
import json
import os
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from botocore.response import StreamingBody

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

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

    def invoke(
        self,
        *,
        FunctionName: str,  # noqa: N803 - boto3's names
        Payload: bytes = b"",  # noqa: N803
        InvocationType: str = "RequestResponse",  # noqa: N803
    ) -> dict[str, Any]:
        function = self.functions.get(FunctionName)
        if function is None:
            raise lambda_error("ResourceNotFoundException")
        if InvocationType == "DryRun":
            return {"StatusCode": 204}
        payload = json.loads(Payload)
        with self._lock:
            self.invocations.append((FunctionName, payload))
        try:
            return _answer(json.dumps(function(payload)).encode())
        except RaisedError as error:
            body = {"errorType": error.kind, "errorMessage": error.message, "stackTrace": ["secret source"]}
            return _answer(json.dumps(body).encode()) | {"FunctionError": "Unhandled"}

    def asked(self, name: str) -> list[Any]:
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


_NUMBERS = itertools.count(1)

_HEAD = '''
import fcntl, json, pathlib, time

PART = json.loads(pathlib.Path(__file__).with_name("part.json").read_text())

def note(event):
    """Write the call down before anything else; returns how many came earlier."""
    with open(PART["journal"], "a+") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        journal.seek(0)
        earlier = len(journal.readlines())
        journal.write(json.dumps({"at": time.time(), "event": event}) + "\\n")
    print("called")  # the emulator waits for a log line
    return earlier
'''


class AdHocFunction:
    """A function on the emulator, which runs on this machine and so can write its calls down in a file.

    Args:
        client: a boto3 Lambda client.
        directory: where the journal of its calls lies.
        source: defines ``handler(event, context)``; it may call ``note(event)``, which writes the call down and
            returns the number of earlier ones, and read ``PART``.
        timeout: of the function, in seconds.
        part: JSON values that the source finds in ``PART``.
    """

    def __init__(self, client: LambdaClient, directory: Path, source: str, *, timeout: int = 10, **part: Any) -> None:
        self.name = f"ad-hoc-{os.getpid()}-{next(_NUMBERS)}"
        self._journal = directory / f"{self.name}.jsonl"
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("function.py", _HEAD + source)
            archive.writestr("part.json", json.dumps({"journal": str(self._journal), **part}))
        client.create_function(
            FunctionName=self.name,
            Runtime="python3.12",
            Role="arn:aws:iam::000000000000:role/ad-hoc",
            Handler="function.handler",
            Code={"ZipFile": content.getvalue()},
            Timeout=timeout,
        )

    def calls(self) -> list[dict[str, Any]]:
        """What reached the function, in its order: ``at`` (Unix time) and ``event``."""
        if not self._journal.exists():
            return []
        return [json.loads(line) for line in self._journal.read_text().splitlines()]


class Meeting:
    """Work that nobody ends before so many are at it as may be, and that counts them: fewer would break the barrier."""

    def __init__(self, expected: int) -> None:
        self.most = 0
        self._running = 0
        self._lock = threading.Lock()
        self._barrier = threading.Barrier(expected, timeout=60)

    def __call__(self, payload: Any) -> dict[str, Any]:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
        self._barrier.wait()
        with self._lock:
            self._running -= 1
        return {}
