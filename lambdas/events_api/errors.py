"""Why the events API does not do what it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lambdas.common.errors import ApiError, InvalidError, UnavailableError


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a request.

    Args:
        field: name of the body's field or of the query's parameter; None when the fault is the body's own.
        message: what is wrong, without what was sent.
    """

    field: str | None
    message: str


class InvalidRequestError(InvalidError):
    """The body or the query breaks its schema; ``faults`` are :class:`Fault`."""

    code, has = "invalid_request", "nothing was done: the request has"


class KeyMissingError(ApiError):
    """The request has no API key."""

    status, code, message = 401, "unauthorized", "an API key is required"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class KeyRefusedError(ApiError):
    """The request's API key is not valid; the caller is not told why."""

    status, code, message = 403, "forbidden", "the API key was not accepted"


class ThrottledError(ApiError):
    """The API key has made as many requests within this minute as it may."""

    status, code = 429, "throttled"
    message = "the API key has made too many requests within a minute: try again later"
    # By then the limit is counted anew.
    headers: Mapping[str, str] = {"Retry-After": "60"}


class KeyUncheckedError(UnavailableError):
    """The API key cannot be checked; the authorizer's log has the reason."""

    code = "key_unchecked"

    def __init__(self) -> None:
        message = "the API key cannot be checked; send the request again later"
        super().__init__(message, reasons=("keys unavailable",), worth_repeating=True)


class NoSuchEventError(ApiError):
    """The owner has no event of this id; whether another owner has, is not told."""

    status, code, message = 404, "no_such_event", "there is no such event"


class EventIdTakenError(ApiError):
    """The ids that an event could have had belong to other events."""

    status, code = 409, "event_id_taken"
    message = "the event's id is taken: send the request again, with another idempotency_key if it has one"


class IdempotencyKeyReusedError(ApiError):
    """The owner's idempotency key has an event with another type, payload or metadata."""

    status, code = 409, "idempotency_key_reused"
    message = (
        "nothing was done: the idempotency_key has an event with another event_type, payload or metadata; send "
        "another key for another event"
    )


class StoreUnavailableError(UnavailableError):
    """The table did not answer, or refused; arguments as of the base class."""

    def __init__(self, reason: str, *, worth_repeating: bool) -> None:
        advice = "send the request again later" if worth_repeating else "the service must be repaired first"
        super().__init__(f"the events cannot be reached; {advice}", reasons=(reason,), worth_repeating=worth_repeating)


class QueueUnavailableError(Exception):
    """The delivery could not be woken; the message is AWS's error code.

    No caller is told: what is stored is delivered, only later.
    """
