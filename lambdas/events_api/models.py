"""Events: as the table keeps them, as callers send them and see them, and their ids."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from lambdas.common.errors import TooLargeError
from lambdas.common.http import AmbiguousObject, parse_json

EVENT_TYPE = re.compile(r"[a-z0-9._]{1,100}", re.ASCII)
MAX_PAYLOAD_BYTES = 256 * 1024
MAX_METADATA_BYTES = 16 * 1024

MAX_DEPTH = 64
"""Levels of objects and arrays. Receivers read what is delivered with parsers of their own, some of which recurse."""

_ALPHABET = string.digits + string.ascii_lowercase
_LENGTH = 12
_PREFIX = "evt_"
_PATTERN = re.compile(rf"{_PREFIX}[{_ALPHABET}]{{{_LENGTH}}}", re.ASCII)
_KEY_PATTERN = r"^[A-Za-z0-9._:-]{1,255}$"


class Status(StrEnum):
    """State of an event."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    ACKNOWLEDGED = "acknowledged"


@dataclass(frozen=True)
class Event:
    """One event. Times are texts as :func:`lambdas.common.aws.timestamp` makes them.

    Args:
        owner: whose key posted it.
        payload: JSON text of an object; empty if it is in an item of its own and was not read.
        metadata: JSON text of an object, if it has any; it is where the payload is.
        idempotency_key: of its sender, if it has any.
        delivery_attempts: posts to the owner's webhook since it was created or replayed.
        next_attempt_at: not before then is it posted; only while it is pending.
        last_status: HTTP status of the last attempt, or a word if it was not answered.
        last_error: why the last attempt failed.
        attempts: JSON text of a list: the last ten attempts, oldest first, also those before it was replayed.
        content_digest: see :func:`content_digest`; events that were stored before there were digests have none.
        version: grows with every change, so that a worker with an older state notices.
        payload_key: key of the payload's own item, if it has one and was not read.
        payload_bytes: size of that item's texts.
    """

    event_id: str
    owner: str
    event_type: str
    payload: str
    metadata: str | None
    idempotency_key: str | None
    status: Status
    created_at: str
    delivery_attempts: int = 0
    next_attempt_at: str | None = None
    last_status: int | str | None = None
    last_error: str | None = None
    first_failed_at: str | None = None
    delivered_at: str | None = None
    failed_at: str | None = None
    acknowledged_at: str | None = None
    attempts: str | None = None
    content_digest: str | None = None
    version: int = 1
    payload_key: str | None = None
    payload_bytes: int | None = None

    @property
    def position(self) -> str:
        """Its place in the order of creation: no two events have the same."""
        return f"{self.created_at}#{self.event_id}"


def is_event_id(text: str) -> bool:
    """Whether an event could have this id."""
    return _PATTERN.fullmatch(text) is not None


def random_id() -> str:
    """An id for an event without an idempotency key. Two of a billion events share one with a chance of one in ten."""
    return _PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def id_for_key(owner: str, idempotency_key: str, *, secret: bytes) -> str:
    """The id of the one event that an owner's idempotency key stands for: an HMAC, so that nobody finds a key with it.

    All calls with this key, however many at once, ask for the same id, which the table gives away once.
    """
    # Neither owners nor keys have line breaks, so that no two of them make the same text.
    number = int.from_bytes(hmac.digest(secret, f"{owner}\n{idempotency_key}".encode(), hashlib.sha256))
    characters = []
    for _ in range(_LENGTH):
        number, index = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[index])
    return _PREFIX + "".join(characters)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written: no type of Python's keeps the digits of every one."""

    text: str


_string = json.JSONEncoder(ensure_ascii=False).encode


def compact(value: Any) -> str:
    """The JSON text, without white space, of a value that was read with each number as a :class:`Number`.

    Raises:
        ValueError: it cannot be passed on; the message says why and quotes nothing.
    """
    text = _text(value, 0)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be Unicode: a surrogate stands alone in it") from None
    return text


def _text(value: Any, depth: int, *, in_order: bool = False) -> str:
    if isinstance(value, Number):
        return value.text
    if isinstance(value, AmbiguousObject):
        raise ValueError("an object in it gives the same name twice")  # noqa: TRY004 - the caller's mistake, not ours
    if not isinstance(value, dict | list):
        return _string(value)
    if depth == MAX_DEPTH:
        raise ValueError(f"must not be nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list):
        return f"[{','.join(_text(item, depth + 1, in_order=in_order) for item in value)}]"
    members = sorted(value.items()) if in_order else value.items()
    texts = (f"{_string(name)}:{_text(item, depth + 1, in_order=in_order)}" for name, item in members)
    return f"{{{','.join(texts)}}}"


def _object_text(value: Any, *, field: str, max_bytes: int) -> str:
    """The JSON text of an object.

    Raises:
        ValueError: it is none, or cannot be passed on.
        TooLargeError: it has more than ``max_bytes`` in UTF-8.
    """
    text = compact(value)
    if not isinstance(value, dict):
        raise ValueError("must be an object")  # noqa: TRY004 - pydantic makes a fault of a ValueError
    size = len(text.encode())
    if size > max_bytes:
        raise TooLargeError(f"{field} has {size} bytes; it may have {max_bytes}")
    return text


def _payload_text(value: Any) -> str:
    if value == {}:
        raise ValueError("must not be empty")
    return _object_text(value, field="payload", max_bytes=MAX_PAYLOAD_BYTES)


def _metadata_text(value: Any) -> str | None:
    return None if value is None else _object_text(value, field="metadata", max_bytes=MAX_METADATA_BYTES)


def _without_defaults(schema: dict[str, Any]) -> None:
    """An optional field has no default that a client could send."""
    for field in schema["properties"].values():
        field.pop("default", None)


class NewEvent(BaseModel):
    """An event to be delivered. The OpenAPI document takes its schema from here."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, json_schema_extra=_without_defaults)

    event_type: Annotated[
        str, Field(pattern=f"^{EVENT_TYPE.pattern}$", description="What has happened, such as `order.created`.")
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
        WithJsonSchema({"type": ["object", "null"]}),
        Field(description=f"Notes of the sender, delivered beside the payload. At most {MAX_METADATA_BYTES} bytes."),
    ] = None
    idempotency_key: Annotated[
        str | None,
        Field(pattern=_KEY_PATTERN),
        WithJsonSchema({"type": ["string", "null"], "pattern": _KEY_PATTERN}),
        Field(
            description="Names the event: posted again with the same event_type, payload and metadata, the owner gets "
            "the first event; with others, the answer is 409."
        ),
    ] = None


def content_digest(new: NewEvent) -> str:
    """SHA-256 of an event's type, payload and metadata. The order of an object's members makes no difference."""
    texts = [text and _text(parse_json(text, number=Number), 0, in_order=True) for text in (new.payload, new.metadata)]
    return hashlib.sha256(json.dumps([new.event_type, *texts]).encode()).hexdigest()


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
    """An event, as JSON text, because its payload is one already and must stay as it was written; no value is null."""
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
