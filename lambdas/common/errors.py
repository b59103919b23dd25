"""Why an API does not do what it was asked: each error with the status, code and headers of its HTTP response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

RETRY_AFTER_SECONDS = 5
"""After a request for which a table was too slow: by then it has grown with the load."""


class ApiError(Exception):
    """Base of the errors that a caller is told about.

    The message, by default that of the class, goes into the response, which lists ``details`` (JSON values) beside it.
    """

    status = 500
    code = "internal_error"
    message = "the request failed; sending it again does no harm"
    details: Any = ()
    headers: Mapping[str, str] = {}

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.message)


class EmptyBodyError(ApiError):
    """There is no body, or nothing but white space in it."""

    status, code, message = 400, "empty_body", "the request has no body"


class NotJsonError(ApiError):
    """The body is no JSON document."""

    status, code = 400, "not_json"


class NotFoundError(ApiError):
    """The API has no such path."""

    status, code, message = 404, "not_found", "there is no such path"


class MethodNotAllowedError(ApiError):
    """The path exists, and takes the ``allowed`` methods only."""

    status, code = 405, "method_not_allowed"

    def __init__(self, *allowed: str) -> None:
        super().__init__(f"the method is not {' or '.join(allowed)}")
        self.headers = {"Allow": ", ".join(allowed)}


class TooLargeError(ApiError):
    """The body, or a part of it, is larger than any that could be stored."""

    status, code = 413, "too_large"


class InvalidError(ApiError):
    """The request breaks its schema.

    Args:
        faults: what is wrong, in the order of the request, each a dataclass; at least one.
        total: number of faults found, which may be more than are listed.
    """

    status = 422
    has = ""
    """What was not done, and what has the faults."""

    def __init__(self, faults: Sequence[Any], *, total: int) -> None:
        noun = "fault" if total == 1 else "faults"
        listed = f"; the first {len(faults)} are listed" if total > len(faults) else ""
        super().__init__(f"{self.has} {total} {noun}{listed}")
        self.faults = tuple(faults)
        self.details = [asdict(fault) for fault in faults]


class UnavailableError(ApiError):
    """A service that the API needs failed.

    Args:
        reasons: AWS's error codes; for the log.
        worth_repeating: the same request may work later; else it fails until somebody repairs the service.
    """

    status, code = 503, "unavailable"

    def __init__(self, message: str, *, reasons: tuple[str, ...], worth_repeating: bool) -> None:
        super().__init__(message)
        self.reasons = reasons
        self.worth_repeating = worth_repeating
        self.headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if worth_repeating else {}
