"""Between API Gateway and an API's code: ids of requests, answers as Powertools takes them."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler.api_gateway import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from lambdas.common.answers import Answer
from lambdas.common.errors import ApiError

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def methods_but(*allowed: str) -> list[str]:
    """The methods that a path does not take, when these are the ones that it takes."""
    return [method for method in METHODS if method not in allowed]


def response(answer: Answer) -> Response[str]:
    """The answer in the resolver's terms."""
    return json_response(answer.status, json.dumps(answer.body, separators=(",", ":")), answer.headers)


def json_response(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response[str]:
    """The same for a body that is JSON text already."""
    return Response(status, "application/json", text, dict(headers or {}))


def request_id(event: Mapping[str, Any], context: LambdaContext) -> str:
    """API Gateway's id, which its access log and the caller have too; else the invocation's."""
    gateway: Mapping[str, Any] = event.get("requestContext") or {}
    return str(gateway.get("requestId") or context.aws_request_id)


def log_unexpected(logger: Logger, error: Exception) -> None:
    """Tell the log where an error came from that is no ApiError."""
    if not isinstance(error, ApiError):
        # Lines of source only: an error's message may quote the request.
        stack = traceback.format_tb(error.__traceback__)
        logger.error("unexpected error", error=type(error).__name__, stack=stack)
