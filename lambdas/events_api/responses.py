"""Events as callers see them: JSON texts, because a payload is one already and must stay as it was written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

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
    """An event; fields without a value are null."""
    members = _json({name: getattr(event, name) for name in _SHOWN}).removesuffix("}")
    texts = {"attempts": event.attempts or "[]", "payload": event.payload, "metadata": event.metadata or "null"}
    return f"{members},{','.join(f'"{name}":{text}' for name, text in texts.items())}}}"


def page_view(events: Sequence[Event], next_cursor: str | None) -> str:
    """A page of a listing."""
    return f'{{"events":[{",".join(map(event_view, events))}],"next_cursor":{_json(next_cursor)}}}'


def receipt_view(event: Event, message: str) -> str:
    """The answer to posting or replaying an event."""
    members = ("event_id", "status", "created_at")
    return _json({**{name: getattr(event, name) for name in members}, "message": message})


def _json(value: Mapping[str, object] | str | None) -> str:
    return json.dumps(value, separators=(",", ":"))
