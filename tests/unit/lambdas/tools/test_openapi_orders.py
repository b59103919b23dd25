"""docs/openapi/orders_api.json is proven valid and true here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import schemathesis

from lambdas.common.errors import MethodNotAllowedError, NotFoundError, UnavailableError
from lambdas.orders_api.models import OrderRecord, parse, read_records
from lambdas.tools.openapi import ORDERS_GATEWAY, orders_document
from tests.packaging.template import gateway_responses
from tests.worlds.openapi import api_errors, response_of

DOCUMENT = orders_document()
POST = DOCUMENT["paths"]["/orders"]["post"]
UNDECLARED = {MethodNotAllowedError, NotFoundError, UnavailableError}
"""For paths and methods that the document does not have; the last is a base of others."""


RESPONSES = {status: response_of(DOCUMENT, "/orders", "post", status) for status in POST["responses"]}


def schema_of(part: dict[str, Any]) -> dict[str, Any]:
    return {**part["content"]["application/json"]["schema"], "components": DOCUMENT["components"]}


def examples() -> Iterator[tuple[str, Any]]:
    for status, answer in RESPONSES.items():
        media = answer["content"]["application/json"]
        yield from ((status, example["value"]) for example in media.get("examples", {}).values())
        yield from ((status, example) for example in [media.get("example")] if example)


def test_document_is_valid_openapi() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_every_error_of_the_code_is_documented_with_an_example() -> None:
    shown = {(int(status), body["error"]["code"]) for status, body in examples() if status != "201"}
    errors = [kind for module in ("common", "orders_api") for kind in api_errors(module) if kind not in UNDECLARED]
    assert len(errors) == 5
    assert {(kind.status, kind.code) for kind in errors} <= shown
    assert {(status, code) for status, (code, _) in ORDERS_GATEWAY.items()} <= shown
    assert (503, "partially_stored") in shown
    assert {"201", "400", "401", "403", "413", "422", "500", "503"} <= set(RESPONSES)


def test_every_example_is_as_its_schema_says() -> None:
    found = list(examples())
    assert len(found) >= len(RESPONSES)
    for status, body in found:
        jsonschema.validate(body, schema_of(RESPONSES[status]))


def test_request_example_is_a_request_that_is_taken() -> None:
    body = POST["requestBody"]["content"]["application/json"]["example"]
    jsonschema.validate(body, schema_of(POST["requestBody"]))
    assert len(read_records(parse(json.dumps(body)))) == 1


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        [{"record_id": "a", "parameter_1": "x"}],
        [{"record_id": "a b", "parameter_1": "x", "parameter_2": 1}],
        [{"record_id": "a", "parameter_1": "x" * 1_025, "parameter_2": 1}],
        [{"record_id": "a", "parameter_1": "x", "parameter_2": "1"}],
        [{"record_id": "a", "parameter_1": "x", "parameter_2": 1, "extra": 1}],
        [{"record_id": "a", "parameter_1": "x", "parameter_2": 1}] * 501,
    ],
    ids=lambda body: str(body)[:40],
)
def test_schema_refuses_what_the_code_refuses(body: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, schema_of(POST["requestBody"]))


def test_every_field_of_a_record_is_described() -> None:
    properties = DOCUMENT["components"]["schemas"]["OrderRecord"]["properties"]
    assert set(properties) == set(OrderRecord.model_fields)
    assert all(field["description"] for field in properties.values())


def test_answers_of_api_gateway_are_those_of_the_template() -> None:
    responses = gateway_responses()
    kinds = {400: "DEFAULT_4XX", 401: "UNAUTHORIZED", 403: "ACCESS_DENIED", 429: "THROTTLED"}
    kinds |= dict.fromkeys([500, 502, 504], "DEFAULT_5XX")
    assert set(ORDERS_GATEWAY) == set(kinds)
    for status, kind in kinds.items():
        error = json.loads(responses[kind]["ResponseTemplates"]["application/json"])["error"]
        assert ORDERS_GATEWAY[status] == (error["code"], error["message"]), kind
        headers = {name.rpartition(".")[2] for name in responses[kind].get("ResponseParameters", {})}
        assert set(RESPONSES[str(status)].get("headers", {})) == headers, kind
    too_large = json.loads(responses["REQUEST_TOO_LARGE"]["ResponseTemplates"]["application/json"])
    jsonschema.validate(too_large, schema_of(RESPONSES["413"]))
