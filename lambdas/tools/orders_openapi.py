"""The orders API's OpenAPI document, made from its code: the model, the limits, the table of errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lambdas.common.errors import ApiError
from lambdas.common.http import MAX_FAULTS
from lambdas.orders_api.errors import STATUS_AND_CODE, NotStoredError, error_answer
from lambdas.orders_api.models import MAX_BODY_BYTES, MAX_RECORDS, OrderRecord, parse, read_records, text_of
from lambdas.tools.openapi import NO_DETAILS, REQUEST_ID, TEXT, array, error_schema, headers, json_content, json_object

GATEWAY_ANSWERS = {
    400: ("bad_request", "the request was refused"),
    401: ("unauthorized", "a bearer token is required"),
    403: ("forbidden", "the token was not accepted"),
    429: ("throttled", "too many requests: try again later"),
    500: ("internal_error", "the request could not be processed"),
    502: ("internal_error", "the request could not be processed"),
    504: ("internal_error", "the request could not be processed"),
}
"""What API Gateway answers by itself, as GatewayResponses in infra/template.yaml has it."""

DESCRIPTIONS = {
    400: "The body is empty, or it is not JSON in UTF-8. Nothing was stored.",
    401: "The request has no Authorization header.",
    403: "The token is not valid: expired, not signed with the key, meant for another API, or no token at all. "
    "The answer is the same for every reason; the log of the authorizer has it.",
    413: f"The body has more than {MAX_BODY_BYTES} bytes. 500 records of the longest texts fit in, also when each "
    "character is written as one \\uXXXX; send characters beyond U+FFFF as UTF-8. Nothing was stored.",
    422: "The body is JSON and breaks the schema, or two records have the same record_id, or an object gives a field "
    f"twice. `details` lists the first {MAX_FAULTS} faults; nothing was stored.",
    429: "The API gets more requests than it takes.",
    500: "The request failed. Sending it again does no harm.",
    502: "The function broke down; as 500.",
    504: "The function took too long; as 500.",
    503: "The table did not take all of the records: `details` says how many are stored and names the others. Sending "
    "all of them again does no harm. Without a Retry-After it will not help before the service is repaired.",
}

COUNT = {"type": "integer", "minimum": 0, "maximum": MAX_RECORDS}


TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "Signed with HS256; exp, iat and sub are required, aud is orders-api. "
    "`python -m lambdas.tools.issue_token` makes one.",
}
FAULT = json_object(
    index={
        "type": ["integer", "null"],
        "minimum": 0,
        "description": "Position of the record, from 0; null when the fault is the body's own.",
    },
    field={
        "type": ["string", "null"],
        "description": "Name of the field, cut when it is long; null when the fault is the record's own.",
    },
    message=TEXT,
)
STORED = json_object(
    stored={**COUNT, "minimum": 1},
    expires_at={"type": "string", "format": "date-time", "description": "24 hours from now, in UTC."},
)
STORED_AND_NOT = json_object(
    stored={**COUNT, "description": "Records that are known to be stored."},
    not_stored={
        **array(TEXT, most=MAX_RECORDS),
        "description": "The record_id of each other record. One may be stored all the same when the table's answer got "
        "lost.",
    },
)
DETAILS = {422: array({"$ref": "#/components/schemas/Fault"}, most=MAX_FAULTS), 503: STORED_AND_NOT}


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Orders API",
            "version": "1.0.0",
            "description": "Takes order records and keeps them for 24 hours.",
        },
        "servers": [
            {
                "url": "https://{api}.execute-api.{region}.amazonaws.com/prod",
                "description": "The output OrdersApiUrl of the application stack.",
                "variables": {"api": {"default": "api"}, "region": {"default": "us-east-1"}},
            }
        ],
        "security": [{"token": []}],
        "paths": {"/orders": {"post": _post_orders()}},
        "components": {
            "securitySchemes": {"token": TOKEN},
            "schemas": {"OrderRecord": OrderRecord.model_json_schema(), "Fault": FAULT},
        },
    }


def _post_orders() -> dict[str, Any]:
    of_the_code = {status for status, _ in STATUS_AND_CODE.values()}
    # 404 and 405 are for other paths and methods.
    statuses = sorted(of_the_code - {404, 405} | set(GATEWAY_ANSWERS))
    return {
        "operationId": "postOrders",
        "summary": "Store records",
        "description": "Stores all of the records, or none when the answer is below 500. A record that is sent again "
        "replaces the one before, so that any request may be repeated.",
        "requestBody": {
            "required": True,
            "content": json_content(
                {
                    **array({"$ref": "#/components/schemas/OrderRecord"}, most=MAX_RECORDS),
                    "description": "The record_id of each is unique among them.",
                },
                example=[{"record_id": "unique_id_1", "parameter_1": "abc", "parameter_2": 2.1}],
            ),
        },
        "responses": {"201": _stored(), **{str(status): _error(status) for status in statuses}},
    }


def _stored() -> dict[str, Any]:
    example = {"stored": 1, "expires_at": "2026-03-02T09:30:00Z"}
    return {"description": "All records are stored.", "content": json_content(STORED, example=example)}


def _error(status: int) -> dict[str, Any]:
    examples = {body["error"]["code"]: {"value": body} for body in _example_bodies(status)}
    answer: dict[str, Any] = {
        "description": DESCRIPTIONS[status],
        # Every code has an example, so the examples' codes are all that there are.
        "content": json_content(
            error_schema(sorted(examples), DETAILS.get(status, NO_DETAILS)),
            examples=examples,
        ),
    }
    names = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
    if status in names:
        answer["headers"] = headers(names[status])
    return answer


def _example_bodies(status: int) -> Iterator[Mapping[str, Any]]:
    """Bodies as the code makes them, and as API Gateway does."""
    for error in _example_errors():
        answer = error_answer(error, REQUEST_ID)
        if answer.status == status:
            yield answer.body
    if status in GATEWAY_ANSWERS:
        code, message = GATEWAY_ANSWERS[status]
        yield {"error": {"code": code, "message": message, "details": [], "request_id": REQUEST_ID}}


def _example_errors() -> Iterator[Exception]:
    for body in ("", '[{"record_id": "a",}]', '[{"record_id": "a b", "parameter_2": "2.1"}]'):
        try:
            read_records(parse(text_of({"body": body})))
        except ApiError as error:
            yield error
    try:
        text_of({"body": " " * (MAX_BODY_BYTES + 1)})
    except ApiError as error:
        yield error
    yield NotStoredError(stored=0, not_stored=["unique_id_1"], reasons=[], worth_repeating=False)
    yield NotStoredError(stored=475, not_stored=["unique_id_476", "unique_id_477"], reasons=[], worth_repeating=True)
