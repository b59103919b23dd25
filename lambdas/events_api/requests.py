"""What a request asks for: its owner, its event, or the page of a listing; or all that is wrong with it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from lambdas.common.aws import timestamp
from lambdas.common.errors import ApiError
from lambdas.common.http import MAX_FAULTS, AmbiguousObject, body_text, field_faults, parse_json, shown, sorted_out
from lambdas.events_api.api_keys import Denial
from lambdas.events_api.errors import (
    Fault,
    InvalidRequestError,
    KeyMissingError,
    KeyRefusedError,
    KeyUncheckedError,
    ThrottledError,
)
from lambdas.events_api.models import EVENT_TYPE, NewEvent, Number, Status
from lambdas.events_api.store import INBOX, Listing, Query

MAX_BODY_BYTES = 2 * 1024 * 1024
r"""The largest payload and metadata take 1.6 MB when a client writes every character as \uXXXX."""

MAX_LIMIT = 100
DEFAULT_LIMIT = 50

_MESSAGES = {
    "event_type.string_pattern_mismatch": "must be 1 to 100 characters of a-z 0-9 . _",
    "idempotency_key.string_pattern_mismatch": "must be 1 to 255 characters of A-Z a-z 0-9 . _ : -",
    "missing": "is required",
    "string_type": "must be a string",
    "string_unicode": "must be Unicode: a surrogate stands alone in it",
}
"""Pydantic's error types in the words of the API."""

_DENIALS: Mapping[str, Callable[[], ApiError]] = {
    Denial.MISSING: KeyMissingError,
    Denial.THROTTLED: ThrottledError,
    Denial.UNCHECKED: KeyUncheckedError,
}
_EVENTS = Listing(status=None, newest_first=True)
_LIMIT = re.compile(r"[1-9][0-9]?|100", re.ASCII)
_TIME = re.compile(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")
_POSITION = re.compile(rb"[0-9TZ:.-]{24}#evt_[a-z0-9]{12}")
_DIGEST_BYTES = 13
"""With the position, a multiple of three: base64 needs no padding, which would have to be quoted in a URL."""


def caller_of(request: Mapping[str, Any]) -> Mapping[str, str]:
    """What the authorizer says of a request; nothing on routes that it does not guard."""
    gateway: Mapping[str, Any] = request.get("requestContext") or {}
    return (gateway.get("authorizer") or {}).get("lambda") or {}


def owner_of(request: Mapping[str, Any]) -> str:
    """Whose events a request of API Gateway is about. Only the authorizer decides this, nothing that the caller sends.

    Raises:
        KeyMissingError: it has no key, or has not been through the authorizer.
        KeyRefusedError: its key is not valid.
        ThrottledError: its key has made too many requests.
        KeyUncheckedError: its key could not be checked.
    """
    caller = caller_of(request)
    if not caller:
        raise KeyMissingError
    if "denied" in caller or not caller.get("owner"):
        raise _DENIALS.get(caller.get("denied", ""), KeyRefusedError)()
    return caller["owner"]


def read_new_event(request: Mapping[str, Any]) -> NewEvent:
    """The event that a request of API Gateway posts.

    Raises:
        EmptyBodyError: there is no body.
        NotJsonError: it is not JSON.
        TooLargeError: it, its payload or its metadata is too large.
        InvalidRequestError: it is not as it must be; the error lists the first MAX_FAULTS faults and counts them all.
    """
    document = parse_json(body_text(request, max_bytes=MAX_BODY_BYTES), number=Number)
    if isinstance(document, AmbiguousObject):
        raise InvalidRequestError([Fault(shown(document.name), "is given twice")], total=1)
    if not isinstance(document, dict):
        raise InvalidRequestError([Fault(None, "must be an object")], total=1)
    known, unknown = sorted_out(document, NewEvent.model_fields)
    faults = [Fault(shown(name), "is not a field of an event") for name in unknown[:MAX_FAULTS]]
    try:
        event = NewEvent.model_validate(known)
    except ValidationError as error:
        faults = [Fault(field, message) for field, message in field_faults(error, _MESSAGES)] + faults
    else:
        if not faults:
            return event
    raise InvalidRequestError(faults[:MAX_FAULTS], total=len(faults) + len(unknown[MAX_FAULTS:]))


def read_events_query(parameters: Mapping[str, str], owner: str) -> Query:
    """The query of `GET /events`; raises InvalidRequestError if a parameter is unknown or cannot be used."""
    readers = {"status": _status, "event_type": _event_type, "since": _time, "until": _time}
    found: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, read in readers.items():
        if name in parameters:
            try:
                found[name] = read(parameters[name])
            except ValueError as error:
                faults.append(Fault(name, str(error)))
    listing = replace(_EVENTS, **found)
    if listing.since and listing.until and listing.since >= listing.until:
        faults.append(Fault("until", "must be later than since"))
    return _read(parameters, owner, listing, (*readers, "limit", "cursor"), faults)


def _status(text: str) -> Status:
    if text not in list(Status):
        raise ValueError(f"must be one of {', '.join(Status)}")
    return Status(text)


def _event_type(text: str) -> str:
    if not EVENT_TYPE.fullmatch(text):
        raise ValueError(_MESSAGES["event_type.string_pattern_mismatch"])
    return text


def _time(text: str) -> str:
    """A time as the table has it, rounded up to the next millisecond, as events are created at whole ones."""
    # A plus sign that a client did not escape arrives as a space.
    found = _TIME.fullmatch(text.replace(" ", "+"))
    try:
        moment = datetime.fromisoformat(found[0] if found else "").astimezone(UTC)
        return timestamp(moment + timedelta(microseconds=-moment.microsecond % 1000))
    except (ValueError, OverflowError):
        raise ValueError("must be a time with its zone, such as 2026-03-02T09:30:00Z") from None


def read_inbox_query(parameters: Mapping[str, str], owner: str) -> Query:
    """The query of `GET /inbox`; raises InvalidRequestError if a parameter is unknown or cannot be used."""
    return _read(parameters, owner, INBOX, ("limit", "cursor"), [])


def _read(
    parameters: Mapping[str, str], owner: str, listing: Listing, names: tuple[str, ...], faults: list[Fault]
) -> Query:
    limit = parameters.get("limit", str(DEFAULT_LIMIT))
    if not _LIMIT.fullmatch(limit):
        faults.append(Fault("limit", f"must be a whole number from 1 to {MAX_LIMIT}"))
    unknown = [name for name in parameters if name not in names]
    faults += [Fault(shown(name), f"is not a parameter: there are {', '.join(names)}") for name in unknown[:MAX_FAULTS]]
    after = None
    # A cursor is bound to a listing: while that is in doubt, so is the cursor.
    if "cursor" in parameters and not faults:
        after = position_of(parameters["cursor"], owner, listing)
    if faults:
        raise InvalidRequestError(faults[:MAX_FAULTS], total=len(faults) + len(unknown[MAX_FAULTS:]))
    return Query(listing, after, int(limit))


def cursor_after(position: str, owner: str, listing: Listing) -> str:
    """The cursor of the page that begins behind a position: a text that callers pass back and need not understand.

    It is bound to the owner and the listing, so that a mix-up is noticed. That is a check sum and no signature: a
    forged one leads to another place of the same listing of the caller's own events, and nowhere else.
    """
    data = position.encode()
    return base64.urlsafe_b64encode(_digest(data, owner, listing) + data).decode()


def position_of(cursor: str, owner: str, listing: Listing) -> str:
    """The position behind which a page begins. It still does when the event that was there is gone.

    Raises:
        InvalidRequestError: the cursor is not one of this owner and this listing.
    """
    try:
        raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    data = raw[_DIGEST_BYTES:]
    if not _POSITION.fullmatch(data) or cursor != cursor_after(data.decode(), owner, listing):
        fault = Fault("cursor", "is not a cursor that this listing gave: begin without one")
        raise InvalidRequestError([fault], total=1)
    return data.decode()


def _digest(position: bytes, owner: str, listing: Listing) -> bytes:
    filters = (listing.event_type, listing.since, listing.until)
    bound = "\n".join(
        # Without filters as it was before there were any: cursors outlive a deployment.
        (owner, listing.status or "", str(listing.newest_first), *(each or "" for each in filters if any(filters)))
    )
    return hashlib.sha256(bound.encode() + b"\n" + position).digest()[:_DIGEST_BYTES]
