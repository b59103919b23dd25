"""From the body of `POST /events` to an event, or to all that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from lambdas.common import body
from lambdas.common.body import AmbiguousObject
from lambdas.common.fields import MAX_FAULTS, field_faults, shown, sorted_out
from lambdas.events_api.errors import Fault, InvalidRequestError
from lambdas.events_api.json_text import Number
from lambdas.events_api.models import NewEvent

MAX_BODY_BYTES = 2 * 1024 * 1024
r"""The largest payload and metadata take 1.6 MB when a client writes every character as \uXXXX."""

_MESSAGES = {
    "event_type.string_pattern_mismatch": "must be 1 to 100 characters of a-z 0-9 . _",
    "idempotency_key.string_pattern_mismatch": "must be 1 to 255 characters of A-Z a-z 0-9 . _ : -",
    "missing": "is required",
    "string_type": "must be a string",
    "string_unicode": "must be Unicode: a surrogate stands alone in it",
}
"""Pydantic's error types in the words of the API."""


def read_new_event(request: Mapping[str, Any]) -> NewEvent:
    """The event of a request.

    Args:
        request: the event of API Gateway.

    Raises:
        EmptyBodyError: there is no body.
        NotJsonError: it is not JSON.
        TooLargeError: it, its payload or its metadata is too large.
        InvalidRequestError: it is not as it must be; the error lists the first MAX_FAULTS faults and counts them all.
    """
    document = body.parse(body.text_of(request, max_bytes=MAX_BODY_BYTES), number=Number)
    if isinstance(document, AmbiguousObject):
        raise InvalidRequestError(Fault(shown(document.name), "is given twice"))
    if not isinstance(document, dict):
        raise InvalidRequestError(Fault(None, "must be an object"))
    known, unknown = sorted_out(document, NewEvent.model_fields)
    faults = [Fault(shown(name), "is not a field of an event") for name in unknown[:MAX_FAULTS]]
    try:
        event = NewEvent.model_validate(known)
    except ValidationError as error:
        faults = [Fault(field, message) for field, message in field_faults(error, _MESSAGES)] + faults
    else:
        if not faults:
            return event
    total = len(faults) + len(unknown[MAX_FAULTS:])
    raise InvalidRequestError(*faults[:MAX_FAULTS], total=total)
