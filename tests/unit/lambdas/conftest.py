"""The functions' handlers, imported as Lambda imports them: with the template's environment in place."""

import importlib
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import botocore.session
import pytest

LoadHandler = Callable[..., ModuleType]

VARIABLES = (
    "API_KEYS_TABLE",
    "API_VERSION",
    "ENVIRONMENT",
    "EVENTS_TABLE",
    "EVENT_IDS_SECRET_ID",
    "EVENT_QUEUE_URL",
    "JWT_AUDIENCE",
    "JWT_ISSUER",
    "JWT_SECRET_ID",
    "MAX_ORDERS",
    "ORDERS_TABLE",
    "ORDER_RESULTS_BUCKET",
    "POWERTOOLS_METRICS_NAMESPACE",
    "REQUESTS_A_MINUTE",
    "RESULTS_PROBABILITY",
    "SEED",
)
"""What the template sets for one function or another."""


@dataclass(frozen=True)
class Context:
    """What the runtime tells a handler about an invocation, as far as the functions look at it."""

    function_name: str = "function-under-test"
    memory_limit_in_mb: int = 256
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:000000000000:function:function-under-test"
    aws_request_id: str = "8c1e6a52-0f0e-4d5b-9a39-5f4c0f6c2a11"
    remaining_seconds: float = 29.0

    def get_remaining_time_in_millis(self) -> int:
        return int(self.remaining_seconds * 1000)


@pytest.fixture
def context() -> Context:
    return Context()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Clients by service: where a test puts one, it stands in for that which botocore would make."""
    clients: dict[str, Any] = {}
    real = botocore.session.Session.create_client

    def create(session: botocore.session.Session, service: str, **options: Any) -> Any:
        return clients[service] if service in clients else real(session, service, **options)

    monkeypatch.setattr(botocore.session.Session, "create_client", create)
    return clients


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> LoadHandler:
    """Imports a handler's module anew, with these variables and no other of the template's."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def load(name: str, **environment: str) -> ModuleType:
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


@pytest.fixture
def imports(root: Path) -> Callable[..., set[str]]:
    """Names the packages that a process has loaded once it has imported a module, with these variables alone."""

    def imports(module: str, **environment: str) -> set[str]:
        code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
        environment["AWS_DEFAULT_REGION"] = "us-east-1"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    return imports


@pytest.fixture
def log() -> Iterator[Callable[[ModuleType], io.StringIO]]:
    with ExitStack() as stack:

        def divert(module: ModuleType) -> io.StringIO:
            handler, output = module.logger.registered_handler, io.StringIO()
            stack.callback(handler.setStream, handler.setStream(output))
            return output

        yield divert
