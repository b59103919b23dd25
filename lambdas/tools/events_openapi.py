"""The events API's OpenAPI document, made from its code: the model, the limits, the table of errors.

The errors in the events API's OpenAPI document.

Schemas and examples of the events API's OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lambdas.common.errors import ApiError, NotFoundError
from lambdas.common.http import MAX_FAULTS
from lambdas.events_api.errors import (
    EventIdTakenError,
    KeyMissingError,
    KeyRefusedError,
    NoSuchEventError,
    StoreUnavailableError,
)
from lambdas.events_api.models import MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES, NewEvent, Status
from lambdas.events_api.requests import DEFAULT_LIMIT, MAX_BODY_BYTES, MAX_LIMIT, read_events_query, read_new_event
from lambdas.events_api.responses import error_answer
from lambdas.tools.openapi import NO_DETAILS, REQUEST_ID, TEXT, array, error_schema, headers, json_content, json_object

EXAMPLE_ID = "evt_4k2j9x0q7m1z"
EXAMPLE_TIME = "2026-03-02T09:30:00.000Z"
EXAMPLE_NEW = {
    "event_type": "order.created",
    "payload": {"order_id": "A-1", "total": 12.50},
    "metadata": {"source": "shop"},
    "idempotency_key": "order-A-1",
}
EXAMPLE_EVENT = {
    "event_id": EXAMPLE_ID,
    "event_type": "order.created",
    "status": "pending",
    "created_at": EXAMPLE_TIME,
    "idempotency_key": "order-A-1",
    "delivery_attempts": 1,
    "next_attempt_at": "2026-03-02T09:30:02.140Z",
    "last_status": 503,
    "last_error": "the receiver answered 503",
    "first_failed_at": "2026-03-02T09:30:01.020Z",
    "delivered_at": None,
    "failed_at": None,
    "acknowledged_at": None,
    "payload": EXAMPLE_NEW["payload"],
    "metadata": EXAMPLE_NEW["metadata"],
}

EVENT_ID = {"type": "string", "pattern": "^evt_[a-z0-9]{12}$"}
STATUS = {"type": "string", "enum": list(Status)}
TIME = {"type": "string", "format": "date-time"}
CURSOR = {**TEXT, "description": "As the page before gave it, for the same parameters and the same owner."}


def or_null(schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    """The schema of a member that is always there, and null when there is nothing to say."""
    return {**schema, "type": [schema["type"], "null"], "description": description}


EVENT = json_object(
    event_id=EVENT_ID,
    event_type=TEXT,
    status=STATUS,
    created_at=TIME,
    idempotency_key=or_null(TEXT, "As it was posted."),
    delivery_attempts={
        "type": "integer",
        "minimum": 0,
        "description": "Posts to the webhook since it was posted or replayed last.",
    },
    next_attempt_at=or_null(TIME, "Only of pending events."),
    last_status={"type": ["integer", "string", "null"], "description": "Of the webhook's last answer."},
    last_error=or_null(TEXT, "Why the last post was in vain."),
    first_failed_at=or_null(TIME, "When a post was in vain for the first time."),
    delivered_at=or_null(TIME, "When the webhook took it."),
    failed_at=or_null(TIME, "When it was given up."),
    acknowledged_at=or_null(TIME, "When it was first acknowledged."),
    payload={"type": "object", "minProperties": 1, "description": "As it was posted: numbers digit by digit."},
    metadata=or_null({"type": "object"}, "As it was posted."),
)
PAGE = json_object(
    events={
        "type": "array",
        "maxItems": MAX_LIMIT,
        "items": {"$ref": "#/components/schemas/Event"},
        "description": "At most `limit`; fewer when they are large.",
    },
    next_cursor=or_null(TEXT, "Of the next page; null when there is none."),
)
RECEIPT = json_object(event_id=EVENT_ID, status=STATUS, created_at=TIME, message=TEXT)
HEALTH = json_object(status={"const": "ok"}, message=TEXT, version=TEXT, environment=TEXT)


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


ALWAYS = (429, 500, 503)
WITH_KEY = (401, 403, *ALWAYS)


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    bearer = "`Authorization: Bearer sk_…`. `python -m lambdas.tools.api_keys create` makes a key."
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Events API",
            "version": "1.0.0",
            "description": "Takes events, keeps them, and delivers them to the webhook of their owner. Listings may be "
            "a second behind; what is read by its id is not.",
        },
        "servers": [
            {
                "url": "https://{api}.execute-api.{region}.amazonaws.com",
                "description": "The output EventsApiUrl of the application stack.",
                "variables": {"api": {"default": "api"}, "region": {"default": "us-east-1"}},
            }
        ],
        "security": [{"bearer": []}, {"header": []}],
        "paths": {
            "/health": {"get": _health()},
            "/events": {"post": _post_event(), "get": _listing("listEvents", "newest first", inbox=False)},
            "/inbox": {"get": _listing("listInbox", "pending, oldest first", inbox=True)},
            "/events/{event_id}": _event_path(get=_get_event(), delete=_delete_event()),
            "/events/{event_id}/acknowledge": _event_path(post=_acknowledge()),
            "/events/{event_id}/replay": _event_path(post=_replay()),
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": bearer},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
            },
            "schemas": {"NewEvent": NewEvent.model_json_schema(), "Event": EVENT},
            "responses": {str(status): error(status) for status in DESCRIPTIONS},
        },
    }


def _health() -> dict[str, Any]:
    example = {
        "status": "ok",
        "message": "Triggers API is healthy",
        "version": "1.0.0",
        "environment": "dev",
    }
    return {
        "operationId": "getHealth",
        "summary": "Whether the API runs",
        "security": [],
        "responses": {
            "200": {"description": "It does.", "content": json_content(HEALTH, example=example)},
            **_errors(*ALWAYS),
        },
    }


def _post_event() -> dict[str, Any]:
    posted = _receipt(
        "The event is stored and waits for its delivery.", "the event is stored and waits for its delivery"
    )
    known = _receipt(
        "The idempotency key has an event already: this one. Nothing was stored.",
        "the idempotency key has this event already",
    )
    return {
        "operationId": "postEvent",
        "summary": "Post an event",
        "description": "Stores the event, then has it delivered. With an idempotency_key the request may be repeated "
        "without harm: however often and at once it is sent, it makes one event.",
        "requestBody": {
            "required": True,
            "content": json_content({"$ref": "#/components/schemas/NewEvent"}, example=EXAMPLE_NEW),
        },
        "responses": {"201": posted, "200": known, **_errors(400, 409, 413, 422, *WITH_KEY)},
    }


def _listing(name: str, which: str, *, inbox: bool) -> dict[str, Any]:
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    parameters = [
        {"name": "limit", "in": "query", "schema": limit},
        {"name": "cursor", "in": "query", "schema": CURSOR},
    ]
    if not inbox:
        parameters.insert(0, {"name": "status", "in": "query", "schema": STATUS})
    page = {"events": [EXAMPLE_EVENT], "next_cursor": None}
    return {
        "operationId": name,
        "summary": f"The owner's events: {which}",
        "parameters": parameters,
        "responses": {
            "200": {"description": "A page of them.", "content": json_content(PAGE, example=page)},
            **_errors(422, *WITH_KEY),
        },
    }


def _event_path(**operations: dict[str, Any]) -> dict[str, Any]:
    return {
        "parameters": [{"name": "event_id", "in": "path", "required": True, "schema": EVENT_ID, "example": EXAMPLE_ID}],
        **operations,
    }


def _get_event() -> dict[str, Any]:
    content = json_content({"$ref": "#/components/schemas/Event"}, example=EXAMPLE_EVENT)
    return {
        "operationId": "getEvent",
        "summary": "One event",
        "responses": {"200": {"description": "The event as it is now.", "content": content}, **_errors(404, *WITH_KEY)},
    }


def _delete_event() -> dict[str, Any]:
    return {
        "operationId": "deleteEvent",
        "summary": "Forget an event",
        "description": "It is not delivered any more, and its idempotency_key is free again.",
        "responses": {"204": {"description": "It is gone."}, **_errors(404, *WITH_KEY)},
    }


def _acknowledge() -> dict[str, Any]:
    return {
        "operationId": "acknowledgeEvent",
        "summary": "Acknowledge an event",
        "description": "Whatever its status, it becomes acknowledged: it leaves the inbox, and is not delivered any "
        "more. The request may be repeated.",
        "responses": {"204": {"description": "It is acknowledged."}, **_errors(404, *WITH_KEY)},
    }


def _replay() -> dict[str, Any]:
    replayed = _receipt("It is pending again.", "the event waits for its delivery again")
    return {
        "operationId": "replayEvent",
        "summary": "Have an event delivered again",
        "description": "Whatever its status, it becomes pending, as if it had never been tried. It keeps its place: "
        "the owner's newer events wait for it.",
        "responses": {"202": replayed, **_errors(404, *WITH_KEY)},
    }


def _receipt(description: str, message: str) -> dict[str, Any]:
    example = {"event_id": EXAMPLE_ID, "status": "pending", "created_at": EXAMPLE_TIME, "message": message}
    return {"description": description, "content": json_content(RECEIPT, example=example)}


def _errors(*statuses: int) -> dict[str, dict[str, Any]]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}
