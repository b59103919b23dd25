"""Events as callers see them: JSON texts, because a payload is one already and must stay as it was written.

What this API's own errors are in HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lambdas.common import http
from lambdas.common.http import Answer, StatusAndCode
from lambdas.events_api.errors import (
    EventIdTakenError,
    InvalidRequestError,
    KeyMissingError,
    KeyRefusedError,
    NoSuchEventError,
    StoreUnavailableError,
)
from lambdas.events_api.models import Event

_SHOWN = (
    "event_id",
    "event_type",
    "status",
    "created_at",
    "idempotency_key",
    "delivery_attempts",
    "next_attempt_at",
    "last_status",
    "last_error",
    "first_failed_at",
    "delivered_at",
    "failed_at",
    "acknowledged_at",
)


def event_view(event: Event) -> str:
    """An event; what it has not is null."""
    members = _json({name: getattr(event, name) for name in _SHOWN}).removesuffix("}")
    return f'{members},"payload":{event.payload},"metadata":{event.metadata or "null"}}}'


def page_view(events: Sequence[Event], next_cursor: str | None) -> str:
    """A page of a listing."""
    return f'{{"events":[{",".join(map(event_view, events))}],"next_cursor":{_json(next_cursor)}}}'


def receipt_view(event: Event, message: str) -> str:
    """What whoever posted or replayed an event gets."""
    members = ("event_id", "status", "created_at")
    return _json({**{name: getattr(event, name) for name in members}, "message": message})


def _json(value: Mapping[str, object] | str | None) -> str:
    return json.dumps(value, separators=(",", ":"))


STATUS_AND_CODE: StatusAndCode = {
    **http.STATUS_AND_CODE,
    KeyMissingError: (401, "unauthorized"),
    KeyRefusedError: (403, "forbidden"),
    NoSuchEventError: (404, "no_such_event"),
    EventIdTakenError: (409, "event_id_taken"),
    InvalidRequestError: (422, "invalid_request"),
    StoreUnavailableError: (503, "unavailable"),
}


def error_answer(error: Exception, request_id: str) -> Answer:
    """The answer to a request that failed: see :func:`lambdas.common.http.error_answer`."""
    answer = http.error_answer(error, request_id, STATUS_AND_CODE)
    return replace(answer, headers={"WWW-Authenticate": "Bearer"}) if isinstance(error, KeyMissingError) else answer
