"""What this API's own errors are in HTTP."""

from __future__ import annotations

from dataclasses import replace

from lambdas.common import answers
from lambdas.common.answers import Answer, StatusAndCode
from lambdas.events_api.errors import (
    EventIdTakenError,
    InvalidRequestError,
    KeyMissingError,
    KeyRefusedError,
    NoSuchEventError,
    StoreUnavailableError,
)

STATUS_AND_CODE: StatusAndCode = {
    **answers.STATUS_AND_CODE,
    KeyMissingError: (401, "unauthorized"),
    KeyRefusedError: (403, "forbidden"),
    NoSuchEventError: (404, "no_such_event"),
    EventIdTakenError: (409, "event_id_taken"),
    InvalidRequestError: (422, "invalid_request"),
    StoreUnavailableError: (503, "unavailable"),
}


def error_answer(error: Exception, request_id: str) -> Answer:
    """The answer to a request that failed: see :func:`lambdas.common.answers.error_answer`."""
    answer = answers.error_answer(error, request_id, STATUS_AND_CODE)
    return replace(answer, headers={"WWW-Authenticate": "Bearer"}) if isinstance(error, KeyMissingError) else answer
