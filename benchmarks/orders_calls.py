"""`python -m benchmarks.orders_calls MODULE... -- SIZE:CALLS...`: call handlers in turns in one warm process.

Prints, as the last line, JSON: milliseconds of every call by module and size, and of each module's first call.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_CREATED = 201

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


@dataclass(frozen=True)
class _Context:
    """What the runtime tells a handler about an invocation."""

    function_name: str = "orders-api"
    function_version: str = "$LATEST"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:000000000000:function:orders-api"
    aws_request_id: str = "8c1e6a52-0f0e-4d5b-9a39-5f4c0f6c2a11"

    def get_remaining_time_in_millis(self) -> int:
        """As at the start of a call."""
        return 29_000


def main(arguments: Sequence[str]) -> int:
    """Measure; raises where a handler does not answer 201."""
    split = arguments.index("--")
    sizes = [(int(size), int(calls)) for size, calls in (item.split(":") for item in arguments[split + 1 :])]
    handlers = {name: _handler(name) for name in arguments[:split]}
    first = {name: _call(handler, _event(1)) for name, handler in handlers.items()}
    measured: dict[str, dict[int, list[float]]] = {name: {size: [] for size, _ in sizes} for name in handlers}
    for size, calls in sizes:
        event = _event(size)
        for _ in range(calls):
            for name, handler in handlers.items():
                measured[name][size].append(_call(handler, event))
    print(json.dumps({"first": first, "calls": measured}))
    return 0


def _handler(module: str) -> Handler:
    handler: Handler = importlib.import_module(module).handler
    return handler


def _call(handler: Handler, event: dict[str, Any]) -> float:
    began = time.perf_counter()
    answer = handler(event, _Context())
    took = 1000 * (time.perf_counter() - began)
    if answer["statusCode"] != _CREATED:
        raise RuntimeError(f"the handler answered {answer['statusCode']}: {answer['body'][:300]}")
    return took


def _event(records: int) -> dict[str, Any]:
    """A request as API Gateway hands it to the function."""
    body = [
        {"record_id": f"benchmark-{index}", "parameter_1": "a" * 40, "parameter_2": index + 0.1}
        for index in range(records)
    ]
    headers = {"Content-Type": "application/json", "Host": "localhost", "User-Agent": "benchmark"}
    return {
        "resource": "/orders",
        "path": "/orders",
        "httpMethod": "POST",
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": "/orders",
            "path": "/prod/orders",
            "httpMethod": "POST",
            "stage": "prod",
            "apiId": "benchmark",
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "identity": {"sourceIp": "127.0.0.1", "userAgent": "benchmark"},
            "authorizer": {"principalId": "benchmark", "sub": "benchmark"},
        },
        "body": json.dumps(body),
        "isBase64Encoded": False,
    }


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
