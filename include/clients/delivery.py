"""What became of something that was posted to an API, told without anything of what was sent or answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

import httpx

from include.clients.rest import TRANSIENT_STATUSES, retry_after_seconds


@dataclass(frozen=True)
class Delivery:
    """What became of one batch.

    Args:
        accepted: the API took it.
        attempts: how often it was sent, the one after a new login not counted.
        status: of the last answer, if the batch was not accepted and there was one.
        error: why it was not accepted, on a short line without anything of the answer's body.
        first_failed_at: when it first failed, if it did.
    """

    accepted: bool
    attempts: int
    status: int | None = None
    error: str | None = None
    first_failed_at: datetime | None = None


@dataclass(frozen=True)
class Failure:
    """Why one attempt failed.

    Args:
        status: of the answer; None if there was none.
        error: on a short line.
        retryable: the same call may work later.
        retry_after: seconds that the answer asked to wait.
    """

    status: int | None
    error: str
    retryable: bool
    retry_after: float | None = None


def failure_of(response: httpx.Response, *, now: datetime) -> Failure | None:
    """What an answer's status says: None if the API accepted.

    Args:
        response: its body need not be read.
        now: an aware time that a ``Retry-After`` with a date is compared with.
    """
    if response.is_success:
        return None
    status = response.status_code
    try:
        text = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        text = str(status)
    retryable = status in TRANSIENT_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    asked = retry_after_seconds(response.headers.get("Retry-After"), now=now) if retryable else None
    return Failure(status, text, retryable, asked)
