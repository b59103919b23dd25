"""The deployed orders API, as tests call it and look behind it."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema

from local.deployment import orders_api_url
from local.environment import DUMMY_AWS_KEY, REGION
from local.layout import PROJECT_ROOT
from tests.fakes.tokens import HS256, claims, forge

if TYPE_CHECKING:
    from tests.integration.conftest import Aws

DOCUMENT_PATH = PROJECT_ROOT / "docs" / "openapi" / "orders_api.json"
DOCUMENT: dict[str, Any] = json.loads(DOCUMENT_PATH.read_text(encoding="utf-8"))

API_LOG = "/aws/lambda/orders-api"
AUTHORIZER_LOG = "/aws/lambda/orders-api-authorizer"

WAIT_SECONDS = 20
CALL_SECONDS = 60.0

TLS = ssl.create_default_context()
"""Not needed for plain HTTP, but httpx would read all certificates anew for each call."""


def record(record_id: str, /, **fields: Any) -> dict[str, Any]:
    """A record that can be stored, but for ``fields``."""
    return {"record_id": record_id, "parameter_1": "abc", "parameter_2": 2.1, **fields}


def eventually(what: str, condition: Callable[[], bool]) -> None:
    """Ask until ``condition`` holds; each question is a call of the API, so that nothing is asked too often."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS} s: {what}"


@dataclass(frozen=True)
class OrdersApi:
    """The API of the shared account.

    Args:
        outputs: of the deployed template.
    """

    aws: Aws
    outputs: Mapping[str, str]

    @cached_property
    def _logs(self) -> Any:
        create: Callable[..., Any] = self.aws.session().client
        return create("logs", endpoint_url=self.aws.endpoint)

    @property
    def url(self) -> str:
        """Address of the stage."""
        return orders_api_url(self.aws.endpoint, self.outputs["OrdersApiId"])

    def key(self) -> str:
        """The key that new tokens are signed with."""
        return self.aws.secrets.get_secret_value(SecretId=self.outputs["OrdersJwtSecretName"])["SecretString"]

    def token(self, **changes: Any) -> str:
        """A token that is valid, but for ``changes`` of its claims."""
        return forge(HS256, claims(**changes), self.key())

    def issued_token(self) -> str:
        """What the token tool prints for this API."""
        variables = {
            "AWS_ENDPOINT_URL": self.aws.endpoint,
            "AWS_ACCESS_KEY_ID": self.aws.account,
            "AWS_SECRET_ACCESS_KEY": DUMMY_AWS_KEY,
            "AWS_DEFAULT_REGION": REGION,
        }
        done = subprocess.run(
            [sys.executable, "-m", "lambdas.tools.issue_token", "--subject", "test-user", "--ttl", "15m"],
            env={**os.environ, **variables},
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.removesuffix("\n")

    def post(
        self, body: object, *, authorization: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The answer to ``POST /orders``; it was held against the OpenAPI document.

        Args:
            body: JSON value, or the bytes to send.
            authorization: value of that header; None = a new valid token.
            headers: instead of the Authorization header.
        """
        if authorization is None:
            authorization = f"Bearer {self.token()}"
        # Through bytes, because httpx takes only ASCII in texts.
        value = authorization.encode() if isinstance(authorization, str) else authorization
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = httpx.post(
            f"{self.url}/orders",
            content=content,
            headers={b"Authorization": value} if headers is None else headers,
            timeout=CALL_SECONDS,
            verify=TLS,
        )
        self._conforms(answer)
        return answer

    def _conforms(self, answer: httpx.Response) -> None:
        documented = DOCUMENT["paths"]["/orders"]["post"]["responses"][str(answer.status_code)]
        media = documented["content"]["application/json"]
        assert answer.headers["content-type"] == "application/json"
        jsonschema.validate(answer.json(), {**media["schema"], "components": DOCUMENT["components"]})

    def stored(self, record_id: str) -> Mapping[str, Any] | None:
        """The table's item, in DynamoDB's own notation."""
        return self.aws.dynamodb.get_item(
            TableName=self.outputs["OrdersTableName"], Key={"record_id": {"S": record_id}}, ConsistentRead=True
        ).get("Item")

    def forget(self, record_id: str) -> None:
        """Take a record out of the table."""
        self.aws.dynamodb.delete_item(TableName=self.outputs["OrdersTableName"], Key={"record_id": {"S": record_id}})

    def stored_ids(self) -> set[str]:
        """Of all records that the table has."""
        pages = self.aws.dynamodb.get_paginator("scan").paginate(
            TableName=self.outputs["OrdersTableName"], ProjectionExpression="record_id"
        )
        return {item["record_id"]["S"] for page in pages for item in page["Items"]}

    def log(self, group: str) -> list[str]:
        """All lines of a function's log."""
        pages = self._logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        return [event["message"] for page in pages for event in page["events"]]

    def log_of(self, request_id: str, message: str = "answered") -> dict[str, Any]:
        """The line that the function wrote about a request; by default the one with which it ended it."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            lines = [json.loads(line) for line in self.log(API_LOG) if request_id in line]
            found[:] = [line for line in lines if line["message"] == message]
            if not found:
                # The emulator may take the line only with the next call's.
                self.post(b"")
            return bool(found)

        eventually(f"the log has request {request_id}", look)
        return found[0]

    def invoke(self, function: str, event: object) -> tuple[Any, bool]:
        """What a function answers to an event, and whether that is an error."""
        answer = self.aws.functions.invoke(FunctionName=function, Payload=json.dumps(event))
        return json.loads(answer["Payload"].read()), "FunctionError" in answer
