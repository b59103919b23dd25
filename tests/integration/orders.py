"""The deployed orders API, as tests call it and look behind it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from local.services.emulator import orders_api_url
from tests.integration.deployed_api import CALL_SECONDS, DOCUMENTS, TLS, DeployedApi, eventually, hold_against
from tests.worlds.tokens import HS256, claims, forge

DOCUMENT_PATH = DOCUMENTS / "orders_api.json"
DOCUMENT: dict[str, Any] = json.loads(DOCUMENT_PATH.read_text(encoding="utf-8"))

API_LOG = "/aws/lambda/orders-api"
AUTHORIZER_LOG = "/aws/lambda/orders-api-authorizer"


def record(record_id: str, /, **fields: Any) -> dict[str, Any]:
    return {"record_id": record_id, "parameter_1": "abc", "parameter_2": 2.1, **fields}


@dataclass(frozen=True)
class OrdersApi(DeployedApi):
    @property
    def url(self) -> str:
        return orders_api_url(self.aws.endpoint, self.outputs["OrdersApiId"])

    def key(self) -> str:
        """The key that new tokens are signed with."""
        return self.aws.secrets.get_secret_value(SecretId=self.outputs["OrdersJwtSecretName"])["SecretString"]

    def token(self, **changes: Any) -> str:
        """A token that is valid, but for ``changes`` of its claims."""
        return forge(HS256, claims(**changes), self.key())

    def issued_token(self) -> str:
        token, said = self.run_tool("issue_token", "--subject", "test-user", "--ttl", "15m")
        assert said == ""
        return token

    def post(
        self, body: object, *, authorization: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The answer to ``POST /orders``, which was held against the OpenAPI document.

        With a new valid token, unless an ``authorization`` or ``headers`` are given.
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
        hold_against(DOCUMENT, "/orders", "post", answer)
        return answer

    def stored(self, record_id: str) -> Mapping[str, Any] | None:
        return self.aws.dynamodb.get_item(
            TableName=self.outputs["OrdersTableName"], Key={"record_id": {"S": record_id}}, ConsistentRead=True
        ).get("Item")

    def forget(self, record_id: str) -> None:
        self.aws.dynamodb.delete_item(TableName=self.outputs["OrdersTableName"], Key={"record_id": {"S": record_id}})

    def stored_ids(self) -> set[str]:
        pages = self.aws.dynamodb.get_paginator("scan").paginate(
            TableName=self.outputs["OrdersTableName"], ProjectionExpression="record_id"
        )
        return {item["record_id"]["S"] for page in pages for item in page["Items"]}

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
