"""Failed calls of AWS: what they are called, and whether the same call may work later.

A log of JSON lines with the fields that Powertools' has, for a function that cannot wait for Powertools to load.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError

_SERVER_ERROR = 500
_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "ThrottlingException",
    }
)
"""DynamoDB and SQS answer these with status 400."""


def error_code(error: ClientError | BotoCoreError) -> str:
    """AWS's error code, such as ``ThrottlingException``; without an answer of AWS, the name of botocore's error."""
    if isinstance(error, BotoCoreError):
        return type(error).__name__
    return str(error.response.get("Error", {}).get("Code", ""))


def may_pass(error: ClientError | BotoCoreError) -> bool:
    """Whether the same call may work later: it was throttled, AWS failed, or no answer came."""
    if isinstance(error, BotoCoreError):
        return isinstance(error, BotoConnectionError | HTTPClientError)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return error_code(error) in _THROTTLED or status >= _SERVER_ERROR


class JsonLog:
    """Writes to standard output, which Lambda sends to the function's log.

    Args:
        service: who writes.
    """

    def __init__(self, service: str) -> None:
        self._service = service

    def info(self, message: str, **fields: str | None) -> None:
        """Note what happens in the ordinary course of things."""
        self._write("INFO", message, fields)

    def error(self, message: str, **fields: str | None) -> None:
        """Note what somebody has to look into."""
        self._write("ERROR", message, fields)

    def _write(self, level: str, message: str, fields: dict[str, str | None]) -> None:
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"level": level, "message": message, "timestamp": timestamp, "service": self._service, **fields}
        sys.stdout.write(json.dumps(line) + "\n")
        # Lambda may freeze the function before Python would do it.
        sys.stdout.flush()
