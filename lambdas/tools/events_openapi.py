"""The events API's OpenAPI document, made from its code: the model, the limits, the table of errors."""

from __future__ import annotations

from typing import Any

from lambdas.events_api.models import NewEvent
from lambdas.events_api.query import DEFAULT_LIMIT, MAX_LIMIT
from lambdas.tools.events_errors import DESCRIPTIONS, error
from lambdas.tools.events_schemas import (
    CURSOR,
    EVENT,
    EVENT_ID,
    EXAMPLE_EVENT,
    EXAMPLE_ID,
    EXAMPLE_NEW,
    EXAMPLE_TIME,
    HEALTH,
    PAGE,
    RECEIPT,
    STATUS,
)
from lambdas.tools.openapi import json_content

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
