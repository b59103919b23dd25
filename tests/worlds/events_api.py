"""The events API's function, called as API Gateway does."""

import json
from types import ModuleType
from typing import Any

import jsonschema

from lambdas.tools.openapi import events_document
from tests.worlds.events import MemoryEvents
from tests.worlds.openapi import response_of
from tests.worlds.sqs import QUEUE_URL, FakeSqs
from tests.worlds.tokens import FakeSecret

HANDLER = "lambdas.events_api.handler"
ENVIRONMENT = {
    "EVENTS_TABLE": "events",
    "EVENT_QUEUE_URL": QUEUE_URL,
    "EVENT_IDS_SECRET_ID": "events-api/event-ids",
    "API_VERSION": "1.2.3",
    "ENVIRONMENT": "test",
    "POWERTOOLS_METRICS_NAMESPACE": "Pipelines",
}
REQUEST_ID = "J5Yx3iP0IAMEV-Q="
DOCUMENT = events_document()
NEW = {"event_type": "order.created", "payload": {"note": "planted-secret", "total": 12.5}}
ID = "evt_0123456789ab"


OF_ONE_EVENT = ("GET /events/{}", "DELETE /events/{}", "POST /events/{}/acknowledge", "POST /events/{}/replay")
GUARDED = ("POST /events", "GET /events", "GET /inbox", *(route.format(ID) for route in OF_ONE_EVENT))


class Api:
    """The function, called as API Gateway does; every answer that the document has is held against it."""

    def __init__(
        self, module: ModuleType, context: Any, store: MemoryEvents, queue: FakeSqs, secret: FakeSecret
    ) -> None:
        self.module = module
        self.context = context
        self.store = store
        self.queue = queue
        self.secret = secret
        self.headers: dict[str, str] = {}

    @property
    def woken(self) -> list[str]:
        """The events of which the queue has told."""
        return [json.loads(body)["event_id"] for body in self.queue.bodies]

    def call(self, route: str, body: str | None = None, **request: Any) -> tuple[int, Any]:
        """Status and body of the answer; for the arguments see :meth:`raw`."""
        answer = self.raw(route, body, **request)
        return answer["statusCode"], json.loads(answer["body"]) if answer["body"] else None

    def raw(
        self,
        route: str,
        body: str | None = None,
        *,
        owner: str | None = "owner-1",
        authorizer: dict[str, Any] | None = None,
        **query: str,
    ) -> dict[str, Any]:
        """The answer as the function gives it; without an owner the authorizer is ``authorizer``, or there is none."""
        method, path = route.split(" ", 1)
        if authorizer is None and owner:
            authorizer = {"lambda": {"owner": owner, "key_id": "abcdefgh"}}
        answer: dict[str, Any] = self.module.handler(
            {
                "version": "2.0",
                "routeKey": "$default",
                "rawPath": path,
                "rawQueryString": "",
                "headers": {"authorization": "Bearer planted-secret", "x-api-key": "planted-secret"},
                **({"queryStringParameters": query} if query else {}),
                "requestContext": {
                    "requestId": REQUEST_ID,
                    "stage": "$default",
                    "http": {"method": method, "path": path},
                    **({} if authorizer is None else {"authorizer": authorizer}),
                },
                **({"body": body} if body is not None else {}),
                "isBase64Encoded": False,
            },
            self.context,
        )
        self.headers = answer["headers"]
        hold_against_document(method, path, answer)
        return answer

    def post(self, **changes: Any) -> tuple[int, Any]:
        return self.call("POST /events", json.dumps(NEW | changes))


def hold_against_document(method: str, path: str, answer: dict[str, Any]) -> None:
    for template, operations in DOCUMENT["paths"].items():
        if path.replace(ID, "{event_id}") == template and method.lower() in operations:
            response = response_of(DOCUMENT, template, method.lower(), answer["statusCode"])
            if "content" not in response:
                assert answer["body"] == ""
                assert "Content-Type" not in answer["headers"]
                return
            assert answer["headers"]["Content-Type"] == "application/json"
            schema = response["content"]["application/json"]["schema"]
            jsonschema.validate(json.loads(answer["body"]), {**schema, "components": DOCUMENT["components"]})


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]
