"""docs/openapi/*.json are proven valid and true here."""

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
from lambdas.common.errors import ApiError, InvalidError, MethodNotAllowedError, NotFoundError, UnavailableError
from lambdas.events_api.models import Event as StoredEvent
from lambdas.events_api.models import NewEvent, Status, event_view, page_view
from lambdas.events_api.requests import read_new_event
from lambdas.orders_api.models import OrderRecord, parse, read_records
from lambdas.tools.openapi import EVENTS_GATEWAY, NOT_DOCUMENTED, ORDERS_GATEWAY, events_document, orders_document
from tests.packaging.template import gateway_responses
from tests.worlds.dynamodb import SECRET, event_item
from tests.worlds.events import new_event
from tests.worlds.events_api import ENVIRONMENT, HANDLER
from tests.worlds.openapi import api_errors

EVENTS, ORDERS = events_document(), orders_document()
POST = {"events": EVENTS["paths"]["/events"]["post"], "orders": ORDERS["paths"]["/orders"]["post"]}
UNDECLARED = {MethodNotAllowedError, InvalidError, UnavailableError}
"""For requests that declared routes do not let happen; the last two are bases of others."""

NOT_SHOWN = {"content_digest", "owner", "payload_bytes", "payload_key", "version"}

both = pytest.mark.parametrize("document", [EVENTS, ORDERS], ids=["events", "orders"])


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        yield from ((path, name.upper(), item[name]) for name in item if name != "parameters")


def examples(responses: dict[str, Any]) -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    """Status, name and value of the examples of responses, with the schema of each."""
    for status, answer in responses.items():
        if "content" in answer:
            media = answer["content"]["application/json"]
            found = media.get("examples") or {"": {"value": media["example"]}}
            yield from ((status, name, example["value"], media["schema"]) for name, example in found.items())


def errors(document: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Status and name of the examples of errors."""
    yield from ((int(status), name) for status, name, *_ in examples(document["components"]["responses"]))


def validate(value: object, document: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.validate(value, {**schema, "components": document["components"]})


@both
def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()


@both
def test_every_example_is_as_its_schema_says(document: dict[str, Any]) -> None:
    responses = [document["components"]["responses"], *(each["responses"] for *_, each in operations(document))]
    found = [example for each in responses for example in examples(each)]
    assert len(found) >= 10
    for _, _, value, schema in found:
        validate(value, document, schema)


@both
def test_every_answer_refers_to_something_that_is_there(document: dict[str, Any]) -> None:
    for _, _, operation in operations(document):
        for answer in operation["responses"].values():
            assert answer.get("$ref", "/500").rpartition("/")[2] in document["components"]["responses"]


def test_request_example_is_a_request_that_is_taken() -> None:
    media = {name: operation["requestBody"]["content"]["application/json"] for name, operation in POST.items()}
    for name, document in (("events", EVENTS), ("orders", ORDERS)):
        validate(media[name]["example"], document, media[name]["schema"])
    assert read_new_event({"body": json.dumps(media["events"]["example"])}).idempotency_key
    assert len(read_records(parse(json.dumps(media["orders"]["example"])))) == 1


ORDER = {"record_id": "a", "parameter_1": "x", "parameter_2": 1}
EVENT = {"event_type": "a", "payload": {"a": 1}}


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"event_type": "a"},
        EVENT | {"event_type": "A"},
        EVENT | {"event_type": "x" * 101},
        *(EVENT | {"payload": payload} for payload in ({}, [1], None)),
        EVENT | {"metadata": []},
        EVENT | {"idempotency_key": 1},
        EVENT | {"idempotency_key": "x" * 256},
        EVENT | {"extra": 1},
    ],
    ids=lambda body: str(body)[:60],
)
def test_schema_of_an_event_refuses_what_the_code_refuses(body: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(body, EVENTS, POST["events"]["requestBody"]["content"]["application/json"]["schema"])
    with pytest.raises(ApiError):
        read_new_event({"body": json.dumps(body)})


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        [{"record_id": "a", "parameter_1": "x"}],
        [ORDER | {"record_id": "a b"}],
        [ORDER | {"parameter_1": "x" * 1_025}],
        [ORDER | {"parameter_2": "1"}],
        [ORDER | {"extra": 1}],
        [ORDER | {"record_id": str(number)} for number in range(501)],
    ],
    ids=lambda body: str(body)[:40],
)
def test_schema_of_records_refuses_what_the_code_refuses(body: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(body, ORDERS, POST["orders"]["requestBody"]["content"]["application/json"]["schema"])
    with pytest.raises(ApiError):
        read_records(parse(json.dumps(body)))


def test_schema_takes_null_as_the_code_does() -> None:
    body = EVENT | {"metadata": None, "idempotency_key": None}
    validate(body, EVENTS, POST["events"]["requestBody"]["content"]["application/json"]["schema"])
    event = read_new_event({"body": json.dumps(body)})
    assert (event.metadata, event.idempotency_key) == (None, None)


def test_paths_and_methods_are_those_of_the_function(load: Callable[..., ModuleType]) -> None:
    served = load(HANDLER, **ENVIRONMENT).ROUTES
    declared: dict[str, set[str]] = {}
    for path, method, _ in operations(EVENTS):
        declared.setdefault(path.replace("{", "<").replace("}", ">"), set()).add(method)
    assert declared == {path: set(methods) for path, methods in served.items() if path not in NOT_DOCUMENTED}
    assert set(served) >= NOT_DOCUMENTED


def test_every_operation_but_health_needs_a_key() -> None:
    assert EVENTS["security"]
    assert [path for path, _, operation in operations(EVENTS) if "security" in operation] == ["/health"]
    for path, _, operation in operations(EVENTS):
        assert {"401", "403"} & set(operation["responses"]) == (set() if path == "/health" else {"401", "403"})


def test_every_error_of_the_events_api_is_documented_with_an_example() -> None:
    kinds = [kind for module in ("common", "events_api") for kind in api_errors(module) if kind not in UNDECLARED]
    known = {(kind.status, kind.code) for kind in kinds} | {(500, "internal_error")}
    assert known | {(status, "api_gateway") for status in EVENTS_GATEWAY} == set(errors(EVENTS))


def test_every_error_of_the_orders_api_is_documented_with_an_example() -> None:
    # The document has none of the paths that are not there.
    undeclared = {*UNDECLARED, NotFoundError}
    kinds = [kind for module in ("common", "orders_api") for kind in api_errors(module) if kind not in undeclared]
    assert len(kinds) == 5
    known = {(kind.status, kind.code) for kind in kinds} | {(503, "partially_stored")}
    assert known | {(status, code) for status, (code, _) in ORDERS_GATEWAY.items()} <= set(errors(ORDERS))
    assert {"201", "400", "401", "403", "413", "422", "500", "503"} <= set(POST["orders"]["responses"])


def test_webhook_is_what_the_delivery_posts() -> None:
    operation = EVENTS["webhooks"]["event"]["post"]
    event = Event.of(event_item(1, created=0.0, metadata='{"a":1}'))
    request = signed_request(event, SECRET, 0.0)
    headers = {parameter["name"] for parameter in operation["parameters"]}
    assert headers == set(request.headers) - {"Content-Type"}
    media = operation["requestBody"]["content"]["application/json"]
    for body in (json.loads(request.body), media["example"]):
        validate(body, EVENTS, media["schema"])


def test_every_field_is_shown_but_for_what_is_ours() -> None:
    shown, schemas = json.loads(event_view(new_event("owner-1"))), EVENTS["components"]["schemas"]
    assert set(shown) == {field.name for field in fields(StoredEvent)} - NOT_SHOWN
    assert set(shown) == set(schemas["Event"]["properties"])
    assert set(schemas["NewEvent"]["properties"]) == set(NewEvent.model_fields)
    properties = ORDERS["components"]["schemas"]["OrderRecord"]["properties"]
    assert set(properties) == set(OrderRecord.model_fields)
    assert all(field["description"] for field in properties.values())


def test_views_are_as_their_schema_says() -> None:
    tried = new_event("owner-1", metadata="{}", idempotency_key="k", last_status="no answer", delivery_attempts=2)
    events = [new_event("owner-1"), tried, new_event("owner-1", status=Status.DELIVERED, last_status=200)]
    for cursor in (None, "x"):
        validate(json.loads(page_view(events, cursor)), EVENTS, EVENTS["components"]["schemas"]["Page"])


def test_answers_of_api_gateway_are_those_of_the_template() -> None:
    responses, documented = gateway_responses(), ORDERS["components"]["responses"]
    kinds = {400: "DEFAULT_4XX", 401: "UNAUTHORIZED", 403: "ACCESS_DENIED", 429: "THROTTLED"}
    kinds |= dict.fromkeys([500, 502, 504], "DEFAULT_5XX")
    assert set(ORDERS_GATEWAY) == set(kinds)
    for status, kind in kinds.items():
        error = json.loads(responses[kind]["ResponseTemplates"]["application/json"])["error"]
        assert ORDERS_GATEWAY[status] == (error["code"], error["message"]), kind
        headers = {name.rpartition(".")[2] for name in responses[kind].get("ResponseParameters", {})}
        assert set(documented[str(status)].get("headers", {})) == headers, kind
    too_large = json.loads(responses["REQUEST_TOO_LARGE"]["ResponseTemplates"]["application/json"])
    validate(too_large, ORDERS, documented["413"]["content"]["application/json"]["schema"])
