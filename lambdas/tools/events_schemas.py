"""Schemas and examples of the events API's OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambdas.events_api.event import Status
from lambdas.events_api.query import MAX_LIMIT
from lambdas.tools.openapi import TEXT, json_object

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
