"""The errors in the events API's OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lambdas.common.errors import ApiError, NotFoundError
from lambdas.common.fields import MAX_FAULTS
from lambdas.events_api.answers import error_answer
from lambdas.events_api.body import MAX_BODY_BYTES, read_new_event
from lambdas.events_api.errors import (
    EventIdTakenError,
    KeyMissingError,
    KeyRefusedError,
    NoSuchEventError,
    StoreUnavailableError,
)
from lambdas.events_api.models import MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES
from lambdas.events_api.query import read_events_query
from lambdas.tools.events_schemas import or_null
from lambdas.tools.openapi import (
    NO_DETAILS,
    REQUEST_ID,
    TEXT,
    array,
    error_schema,
    headers,
    json_content,
    json_object,
)

GATEWAY_ANSWERS = {
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
"""What API Gateway answers by itself, in a form of its own."""

DESCRIPTIONS = {
    400: "The body is empty, or it is not JSON in UTF-8. Nothing was stored.",
    401: "The request has no API key.",
    403: "The API key opens nothing: it is not one, was revoked, or there are two. The answer is the same for every "
    "reason; the log of the authorizer has it.",
    404: "The owner of the key has no such event.",
    409: "The id that the event would have belongs to another one.",
    413: f"The body has more than {MAX_BODY_BYTES} bytes, the payload more than {MAX_PAYLOAD_BYTES}, or the metadata "
    f"more than {MAX_METADATA_BYTES}. Nothing was stored.",
    422: f"The body or the query is not as it must be. `details` lists {MAX_FAULTS} faults at most; nothing was done.",
    429: "The API gets more requests than it takes.",
    500: "The request failed. Sending it again does no harm; an event that is posted again needs an idempotency_key.",
    503: "The events cannot be reached. Without a Retry-After it will not help to try again before the service is "
    "repaired.",
}

_MESSAGE = json_object(message=TEXT)
_FAULTS = array(
    json_object(
        field=or_null(TEXT, "Of the body, or parameter of the query; cut when it is long; null: the body itself."),
        message=TEXT,
    ),
    most=MAX_FAULTS,
)


def error(status: int) -> dict[str, Any]:
    """The answer of this status."""
    answers = [error_answer(error, REQUEST_ID) for error in (*_example_errors(), Exception())]
    bodies = [answer.body for answer in answers if answer.status == status]
    examples = {body["error"]["code"]: {"value": body} for body in bodies}
    schemas = []
    if examples:
        # Every code has an example, so the examples' codes are all that there are.
        schemas.append(error_schema(sorted(examples), _FAULTS if status == 422 else NO_DETAILS))
    if status in GATEWAY_ANSWERS:
        schemas.append(_MESSAGE)
        examples["api_gateway"] = {"value": {"message": GATEWAY_ANSWERS[status]}}
    schema = {"anyOf": schemas} if len(schemas) > 1 else schemas[0]
    answer = {"description": DESCRIPTIONS[status], "content": json_content(schema, examples=examples)}
    names = {401: "WWW-Authenticate", 503: "Retry-After"}
    return {**answer, "headers": headers(names[status])} if status in names else answer


def _example_errors() -> Iterator[ApiError]:
    """Errors as the code raises them on the routes of the document, at least one of every class."""
    wrong = '{"event_type": "Order", "payload": {}, "extra": 1}'
    for body in ("", '{"event_type": "a",}', wrong, " " * (MAX_BODY_BYTES + 1)):
        try:
            read_new_event({"body": body})
        except ApiError as error:
            yield error
    try:
        read_events_query({"limit": "0"}, "owner")
    except ApiError as error:
        yield error
    yield KeyMissingError()
    yield KeyRefusedError()
    yield NotFoundError("there is no such path")
    yield NoSuchEventError()
    yield EventIdTakenError()
    yield StoreUnavailableError("", worth_repeating=True)
