"""Failed calls of AWS: what they are called, and whether the same call may work later."""

from __future__ import annotations

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
