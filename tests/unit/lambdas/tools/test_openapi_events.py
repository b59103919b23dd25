"""docs/openapi/events_api.json is proven valid and true here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import schemathesis

from include.delivery.models import Event
from include.delivery.owner_queue import signed_request
from lambdas.common.errors import MethodNotAllowedError, UnavailableError
from lambdas.events_api.errors import InvalidRequestError
from lambdas.events_api.models import Event as StoredEvent
from lambdas.events_api.models import NewEvent, Status, event_view, page_view
from lambdas.events_api.requests import read_new_event
from lambdas.tools.openapi import EVENTS_GATEWAY, NOT_DOCUMENTED, events_document
from tests.worlds.dynamodb import SECRET, event_item
from tests.worlds.events import new_event
from tests.worlds.events_api import ENVIRONMENT, HANDLER
from tests.worlds.openapi import api_errors

DOCUMENT = events_document()
POST = DOCUMENT["paths"]["/events"]["post"]
UNDECLARED = {MethodNotAllowedError, UnavailableError}
"""For requests that declared routes do not let happen; the last is a base of others."""

NOT_SHOWN = {"content_digest", "owner", "payload_bytes", "payload_key", "version"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        yield from ((path, name.upper(), item[name]) for name in item if name != "parameters")


def answers() -> Iterator[dict[str, Any]]:
    yield from DOCUMENT["components"]["responses"].values()
    for _, _, operation in operations():
        yield from (answer for answer in operation["responses"].values() if "content" in answer)


def validate(value: object, schema: dict[str, Any]) -> None:
    jsonschema.validate(value, {**schema, "components": DOCUMENT["components"]})


def test_document_is_valid_openapi() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_paths_and_methods_are_those_of_the_function(load: Callable[..., ModuleType]) -> None:
    served = load(HANDLER, **ENVIRONMENT).ROUTES
    declared: dict[str, set[str]] = {}
    for path, method, _ in operations():
        declared.setdefault(path.replace("{", "<").replace("}", ">"), set()).add(method)
    assert declared == {path: set(methods) for path, methods in served.items() if path not in NOT_DOCUMENTED}
    assert set(served) >= NOT_DOCUMENTED


def test_every_operation_but_health_needs_a_key() -> None:
    assert DOCUMENT["security"]
    assert [path for path, _, operation in operations() if "security" in operation] == ["/health"]
    for path, _, operation in operations():
        assert {"401", "403"} & set(operation["responses"]) == (set() if path == "/health" else {"401", "403"})


def test_every_error_of_the_code_is_documented_with_an_example() -> None:
    shown = {
        (int(status), name)
        for status, answer in DOCUMENT["components"]["responses"].items()
        for name in answer["content"]["application/json"]["examples"]
    }
    errors = [kind for module in ("common", "events_api") for kind in api_errors(module) if kind not in UNDECLARED]
    known = {(kind.status, kind.code) for kind in errors}
    assert known | {(500, "internal_error")} | {(status, "api_gateway") for status in EVENTS_GATEWAY} == shown


def test_every_example_is_as_its_schema_says() -> None:
    checked = 0
    for answer in answers():
        media = answer["content"]["application/json"]
        examples = [example["value"] for example in media.get("examples", {}).values()]
        for example in examples or [media["example"]]:
            validate(example, media["schema"])
            checked += 1
    assert checked > 20


def test_every_answer_refers_to_something_that_is_there() -> None:
    for _, _, operation in operations():
        for answer in operation["responses"].values():
            name = answer.get("$ref", "/500").rpartition("/")[2]
            assert name in DOCUMENT["components"]["responses"]


def test_request_example_is_a_request_that_is_taken() -> None:
    media = POST["requestBody"]["content"]["application/json"]
    validate(media["example"], media["schema"])
    assert read_new_event({"body": json.dumps(media["example"])}).idempotency_key


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"event_type": "a"},
        {"event_type": "A", "payload": {"a": 1}},
        {"event_type": "x" * 101, "payload": {"a": 1}},
        {"event_type": "a", "payload": {}},
        {"event_type": "a", "payload": [1]},
        {"event_type": "a", "payload": None},
        {"event_type": "a", "payload": {"a": 1}, "metadata": []},
        {"event_type": "a", "payload": {"a": 1}, "idempotency_key": 1},
        {"event_type": "a", "payload": {"a": 1}, "idempotency_key": "x" * 256},
        {"event_type": "a", "payload": {"a": 1}, "extra": 1},
    ],
    ids=lambda body: str(body)[:60],
)
def test_schema_refuses_what_the_code_refuses(body: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(body, POST["requestBody"]["content"]["application/json"]["schema"])
    with pytest.raises(InvalidRequestError):
        read_new_event({"body": json.dumps(body)})


def test_schema_takes_null_as_the_code_does() -> None:
    body = {"event_type": "a", "payload": {"a": 1}, "metadata": None, "idempotency_key": None}
    validate(body, POST["requestBody"]["content"]["application/json"]["schema"])
    event = read_new_event({"body": json.dumps(body)})
    assert (event.metadata, event.idempotency_key) == (None, None)


def test_webhook_is_what_the_delivery_posts() -> None:
    operation = DOCUMENT["webhooks"]["event"]["post"]
    event = Event.of(event_item(1, created=0.0, metadata='{"a":1}'))
    request = signed_request(event, SECRET, 0.0)
    headers = {parameter["name"] for parameter in operation["parameters"]}
    assert headers == set(request.headers) - {"Content-Type"}
    media = operation["requestBody"]["content"]["application/json"]
    for body in (json.loads(request.body), media["example"]):
        validate(body, media["schema"])


def test_every_field_of_an_event_is_shown_but_for_what_is_ours() -> None:
    shown = json.loads(event_view(new_event("owner-1")))
    assert set(shown) == {field.name for field in fields(StoredEvent)} - NOT_SHOWN
    assert set(shown) == set(DOCUMENT["components"]["schemas"]["Event"]["properties"])
    assert set(DOCUMENT["components"]["schemas"]["NewEvent"]["properties"]) == set(NewEvent.model_fields)


def test_views_are_as_their_schema_says() -> None:
    tried = new_event("owner-1", metadata="{}", idempotency_key="k", last_status="no answer", delivery_attempts=2)
    events = [new_event("owner-1"), tried, new_event("owner-1", status=Status.DELIVERED, last_status=200)]
    for cursor in (None, "x"):
        validate(json.loads(page_view(events, cursor)), DOCUMENT["components"]["schemas"]["Page"])
