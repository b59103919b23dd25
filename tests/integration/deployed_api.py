"""What tests of the deployed APIs have in common: the document that answers are held against, tools, logs."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jsonschema

from local.processes.layout import DUMMY_AWS_KEY, PROJECT_ROOT, REGION

if TYPE_CHECKING:
    import httpx

    from tests.integration.conftest import Aws

DOCUMENTS = PROJECT_ROOT / "docs" / "openapi"

WAIT_SECONDS = 120
CALL_SECONDS = 60.0

TLS = ssl.create_default_context()
"""Not needed for plain HTTP, but httpx would read all certificates anew for each call."""


def eventually(what: str, condition: Callable[[], bool]) -> None:
    """Ask until ``condition`` holds; each question is a call of the API, so that nothing is asked too often."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS} s: {what}"


def hold_against(document: Mapping[str, Any], path: str, method: str, answer: httpx.Response) -> None:
    """Check that an operation's answer is one of those that the OpenAPI document has."""
    response = document["paths"][path][method.lower()]["responses"][str(answer.status_code)]
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    if "content" not in response:
        assert answer.content == b""
        return
    assert answer.headers["content-type"] == "application/json"
    schema = response["content"]["application/json"]["schema"]
    jsonschema.validate(answer.json(), {**schema, "components": document["components"]})


@dataclass(frozen=True)
class DeployedApi:
    """An API of the shared account, and what lies behind it."""

    aws: Aws
    outputs: Mapping[str, str]

    @cached_property
    def _logs(self) -> Any:
        create: Callable[..., Any] = self.aws.session().client
        return create("logs", endpoint_url=self.aws.endpoint)

    def log(self, group: str) -> list[str]:
        pages = self._logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        return [event["message"] for page in pages for event in page["events"]]

    def invoke(self, function: str, event: object) -> tuple[Any, bool]:
        answer = self.aws.functions.invoke(FunctionName=function, Payload=json.dumps(event))
        return json.loads(answer["Payload"].read()), "FunctionError" in answer

    @contextmanager
    def variables(self, function: str, **changes: str) -> Iterator[None]:
        functions = self.aws.functions
        before = functions.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        functions.update_function_configuration(FunctionName=function, Environment={"Variables": {**before, **changes}})
        try:
            yield
        finally:
            functions.update_function_configuration(FunctionName=function, Environment={"Variables": before})

    def run_tool(self, tool: str, *arguments: str) -> tuple[str, str]:
        """What a command line of ``lambdas.tools`` prints and says, used as a person would on this account."""
        variables = {
            "AWS_ENDPOINT_URL": self.aws.endpoint,
            "AWS_ACCESS_KEY_ID": self.aws.account,
            "AWS_SECRET_ACCESS_KEY": DUMMY_AWS_KEY,
            "AWS_DEFAULT_REGION": REGION,
        }
        done = subprocess.run(
            [sys.executable, "-m", f"lambdas.tools.{tool}", *arguments],
            env={**os.environ, **variables},
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.removesuffix("\n"), done.stderr
