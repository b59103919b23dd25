"""Why an API does not do what it was asked: each error with the status, code and headers of its HTTP response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RETRY_AFTER_SECONDS = 5
"""After a request for which a table was too slow: by then it has grown with the load."""


class ApiError(Exception):
    """Base of the errors that a caller is told about; the message goes into the response."""

    status = 500
    code = "internal_error"

    @property
    def details(self) -> Any:
        """What the response lists beside the message: JSON values."""
        return []

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the response."""
        return {}


class EmptyBodyError(ApiError):
    """There is no body, or nothing but white space in it."""

    status, code = 400, "empty_body"


class NotJsonError(ApiError):
    """The body is no JSON document."""

    status, code = 400, "not_json"


class NotFoundError(ApiError):
    """The API has no such path."""

    status, code = 404, "not_found"

    def __init__(self) -> None:
        super().__init__("there is no such path")


class MethodNotAllowedError(ApiError):
    """The path exists, and does not take this method."""

    status, code = 405, "method_not_allowed"

    def __init__(self, *allowed: str) -> None:
        super().__init__(f"the method is not {' or '.join(allowed)}")
        self._allowed = allowed

    @property
    def headers(self) -> Mapping[str, str]:
        """The methods that the path takes."""
        return {"Allow": ", ".join(self._allowed)}


class TooLargeError(ApiError):
    """The body, or a part of it, is larger than any that could be stored."""

    status, code = 413, "too_large"


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

    @property
    def headers(self) -> Mapping[str, str]:
        """When to try again, if that makes sense."""
        return {"Retry-After": str(RETRY_AFTER_SECONDS)} if self.worth_repeating else {}
