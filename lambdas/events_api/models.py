"""A new event as callers send it. The OpenAPI document takes its schema from here."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from lambdas.common.errors import TooLargeError
from lambdas.events_api.json_text import MAX_DEPTH, compact

MAX_PAYLOAD_BYTES = 256 * 1024
MAX_METADATA_BYTES = 16 * 1024

_KEY_PATTERN = r"^[A-Za-z0-9._:-]{1,255}$"


def _object_text(value: Any, *, field: str, max_bytes: int, may_be_empty: bool) -> str:
    """The JSON text of an object.

    Raises:
        ValueError: it is none, or cannot be passed on.
        TooLargeError: it has more than ``max_bytes`` in UTF-8.
    """
    text = compact(value)
    if not isinstance(value, dict):
        raise ValueError("must be an object")  # noqa: TRY004 - pydantic makes a fault of a ValueError
    if not value and not may_be_empty:
        raise ValueError("must not be empty")
    size = len(text.encode())
    if size > max_bytes:
        raise TooLargeError(f"{field} has {size} bytes; it may have {max_bytes}")
    return text


_payload_text = partial(_object_text, field="payload", max_bytes=MAX_PAYLOAD_BYTES, may_be_empty=False)
_metadata_text = partial(_object_text, field="metadata", max_bytes=MAX_METADATA_BYTES, may_be_empty=True)


def _given(value: Any) -> Any:
    """Refuses null: whoever sends it meant a key and has none, or it would not be there."""
    if value is None:
        raise ValueError("must be a string")
    return value


def _without_defaults(schema: dict[str, Any]) -> None:
    """A field that is left out has no value in JSON, not null."""
    for field in schema["properties"].values():
        field.pop("default", None)


class NewEvent(BaseModel):
    """An event to be delivered."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, json_schema_extra=_without_defaults)

    event_type: Annotated[
        str,
        Field(pattern=r"^[a-z0-9._]{1,100}$", description="What has happened, such as `order.created`."),
    ]
    payload: Annotated[
        str,
        BeforeValidator(_payload_text),
        WithJsonSchema({"type": "object", "minProperties": 1}),
        Field(
            description="What the receiver gets. Numbers stay exactly as they are written. At most "
            f"{MAX_PAYLOAD_BYTES} bytes in UTF-8 without white space, and {MAX_DEPTH} levels."
        ),
    ]
    metadata: Annotated[
        str | None,
        BeforeValidator(_metadata_text),
        WithJsonSchema({"type": "object"}),
        Field(description=f"Notes of the sender, delivered beside the payload. At most {MAX_METADATA_BYTES} bytes."),
    ] = None
    idempotency_key: Annotated[
        str | None,
        BeforeValidator(_given),
        Field(pattern=_KEY_PATTERN),
        WithJsonSchema({"type": "string", "pattern": _KEY_PATTERN}),
        Field(description="Names the event: posted again, the owner gets the first event, whatever else is sent."),
    ] = None
