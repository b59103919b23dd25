"""Why an API does not do what it was asked. None of these knows HTTP: http.py gives each its status."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """Base of the errors that a caller is told about; the message goes into the answer."""

    @property
    def details(self) -> Any:
        """What the answer lists beside the message: JSON values."""
        return []


class EmptyBodyError(ApiError):
    """There is no body, or nothing but white space in it."""


class NotJsonError(ApiError):
    """The body is no JSON document."""


class TooLargeError(ApiError):
    """The body, or a part of it, is larger than any that could be stored."""


class NotFoundError(ApiError):
    """The API has no such path."""


class MethodNotAllowedError(ApiError):
    """The path exists, and does not take this method.

    Args:
        allowed: the methods that it takes.
    """

    def __init__(self, *allowed: str) -> None:
        super().__init__(f"the method is not {' or '.join(allowed)}")
        self.allowed = allowed


class UnavailableError(ApiError):
    """What the API stands on did not do its part.

    Args:
        reasons: what it said, as AWS's error codes; for the log.
        worth_repeating: it may do it later; else it refuses until somebody repairs the service.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...], worth_repeating: bool) -> None:
        super().__init__(message)
        self.reasons = reasons
        self.worth_repeating = worth_repeating
