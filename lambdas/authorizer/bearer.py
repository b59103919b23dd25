"""The token that a request carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambdas.authorizer.errors import DeniedError, MissingTokenError

MAX_CHARACTERS = 8_192
"""A token of ours has about 200. Longer ones are refused before anything is decoded."""


def token_of(event: Mapping[str, Any]) -> str:
    """The token of an API Gateway request: ``Bearer <token>``, or the token alone.

    Args:
        event: a REQUEST authorizer's; header names in any case.

    Raises:
        MissingTokenError: there is no Authorization header, or it is empty.
        DeniedError: there are two, or it is too long or no bearer token.
    """
    values = _header_values(event, "authorization")
    if not any(value.strip() for value in values):
        raise MissingTokenError
    if len(values) > 1:
        # Whoever stands between the caller and this function may look at the other one.
        raise DeniedError("several headers")
    if len(values[0]) > MAX_CHARACTERS:
        raise DeniedError("too long")
    match values[0].split():
        case [scheme, token] if scheme.lower() == "bearer":
            return token
        case [token] if token.lower() != "bearer":
            return token
        case _:
            raise DeniedError("no bearer token")


def _header_values(event: Mapping[str, Any], name: str) -> list[str]:
    several: Mapping[str, list[str | None] | None] = event.get("multiValueHeaders") or {}
    single: Mapping[str, str | None] = event.get("headers") or {}
    found = [value for key, values in several.items() if key.lower() == name for value in values or ()]
    found = found or [value for key, value in single.items() if key.lower() == name]
    # A header without a value may come as null.
    return [value or "" for value in found]
