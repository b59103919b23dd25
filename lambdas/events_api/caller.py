"""Who calls: what the authorizer found out about a request, and how it tells the API's function.

An HTTP API answers for an authorizer that denies, always with ``{"message": "Forbidden"}``, and there is no way to
change that. So the authorizer lets every request through, with the owner of its key or with why there is none, and the
function answers those without an owner, in the form that all of its errors have.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from lambdas.events_api.errors import KeyMissingError, KeyRefusedError


class Denial(StrEnum):
    """Why a request has no owner."""

    MISSING = "missing"
    REFUSED = "refused"


def owner_of(request: Mapping[str, Any]) -> str:
    """Whose events a request is about. Nothing that the caller sends has a say in it.

    Args:
        request: the event of API Gateway.

    Raises:
        KeyMissingError: it has no key, or has not been through the authorizer.
        KeyRefusedError: it has one that opens nothing.
    """
    caller = findings(request)
    if not caller or caller.get("denied") == Denial.MISSING:
        raise KeyMissingError
    owner = caller.get("owner")
    if "denied" in caller or not owner:
        raise KeyRefusedError
    return owner


def findings(request: Mapping[str, Any]) -> Mapping[str, str]:
    """What the authorizer says of a request; nothing on routes that it does not guard."""
    gateway: Mapping[str, Any] = request.get("requestContext") or {}
    return (gateway.get("authorizer") or {}).get("lambda") or {}
