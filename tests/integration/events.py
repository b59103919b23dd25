"""The deployed events API, as tests call it and look behind it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import httpx

from lambdas.common.aws import timestamp
from lambdas.tools.api_keys import KeyTable
from local.services.emulator import events_api_url
from tests.integration.deployed_api import DOCUMENTS, DeployedApi, hold_against

DOCUMENT_PATH = DOCUMENTS / "events_api.json"
DOCUMENT: dict[str, Any] = json.loads(DOCUMENT_PATH.read_text(encoding="utf-8"))

API_LOG = "/aws/lambda/events-api"
AUTHORIZER_LOG = "/aws/lambda/events-api-authorizer"

NO_SUCH_EVENT = "evt_000000000000"


def new_event(**fields: Any) -> dict[str, Any]:
    return {"event_type": "order.created", "payload": {"order": 1}, **fields}


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True)
class EventsApi(DeployedApi):
    """The events API."""

    client: httpx.Client

    @property
    def url(self) -> str:
        return events_api_url(self.aws.endpoint, self.outputs["EventsApiId"])

    @cached_property
    def keys(self) -> KeyTable:
        return KeyTable(self.aws.dynamodb, self.outputs["ApiKeysTableName"])

    def owner(self) -> Owner:
        name = unique("owner")
        return Owner(self, name, self.keys.create(name, None, timestamp(datetime.now(UTC))))

    def call(
        self,
        route: str,
        *,
        headers: Mapping[str, str] | list[tuple[bytes, bytes]] | None = None,
        body: object = None,
        params: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        """The answer to a request; if its operation is documented, it was held against the document."""
        method, path = route.split(" ")
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        answer = self.client.request(method, f"{self.url}{path}", headers=headers, content=content, params=params)
        documented = _documented(path)
        if documented and method.lower() in DOCUMENT["paths"][documented]:
            hold_against(DOCUMENT, documented, method, answer)
        return answer

    def stored(self, event_id: str) -> Mapping[str, Any] | None:
        """The table's item, in DynamoDB's own notation."""
        return self.aws.dynamodb.get_item(
            TableName=self.outputs["EventsTableName"], Key={"event_id": {"S": event_id}}, ConsistentRead=True
        ).get("Item")

    def stored_of(self, owner: str) -> list[Mapping[str, Any]]:
        pages = self.aws.dynamodb.get_paginator("scan").paginate(TableName=self.outputs["EventsTableName"])
        return [item for page in pages for item in page["Items"] if item.get("owner") == {"S": owner}]

    def woken(self) -> list[Any]:
        """Bodies of the queue's messages, which are taken from it."""
        sqs, queue = self.aws.sqs, self.outputs["EventQueueUrl"]
        bodies = []
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return bodies


@dataclass(frozen=True)
class Owner:
    """Somebody who has a key."""

    api: EventsApi
    name: str
    key: str

    def call(self, route: str, *, body: object = None, **params: Any) -> httpx.Response:
        headers = {"X-API-Key": self.key, "Content-Type": "application/json"}
        return self.api.call(route, headers=headers, body=body, params=params)

    def post(self, **fields: Any) -> str:
        answer = self.call("POST /events", body=new_event(**fields))
        assert answer.status_code == 201, answer.text
        return answer.json()["event_id"]

    def page(self, path: str, **params: Any) -> tuple[list[str], str | None]:
        """Ids on a page of a listing, and the next page's cursor."""
        answer = self.call(f"GET {path}", **params)
        assert answer.status_code == 200, answer.text
        return [event["event_id"] for event in answer.json()["events"]], answer.json()["next_cursor"]


def _documented(path: str) -> str | None:
    """The path as the document writes it; None if it has none such."""
    parts = path.split("/")
    if len(parts) > 2 and parts[1] == "events" and parts[2]:
        parts[2] = "{event_id}"
    known = "/".join(parts)
    return known if known in DOCUMENT["paths"] else None
