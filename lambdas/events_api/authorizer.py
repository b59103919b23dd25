"""`events-api-authorizer`: who may call the events API. Only the standard library and botocore, for a quick start.

An HTTP API answers for an authorizer that denies, always with ``{"message": "Forbidden"}``, and there is no way to
change that. So the authorizer lets every request through, with the owner of its key or with the reason why there is
none, and the API's function answers those without an owner, in the form that all of its errors have.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lambdas.common import environment
from lambdas.common.aws import log
from lambdas.events_api.api_keys import (
    ApiKeyStore,
    Denial,
    DeniedError,
    KeysUnavailableError,
    KeyUsage,
    dynamodb_client,
)

SERVICE = "events-api-authorizer"
# Made while the function starts: there is more CPU then, and a warm call keeps the connection.
dynamodb, table = dynamodb_client(), environment.text("API_KEYS_TABLE")
keys = ApiKeyStore(dynamodb, table, clock=time.time)
limit = environment.whole_number("REQUESTS_A_MINUTE", least=1, most=1_000_000)
usage = KeyUsage(dynamodb, table, limit=limit, clock=time.time)


def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Answer one request of API Gateway (payload 2.0, simple response)."""
    request_id = (event.get("requestContext") or {}).get("requestId")
    try:
        key = keys.find(key_of(event.get("headers") or {}))
        usage.count(key.key_id)
    except DeniedError as error:
        log("INFO", "denied", SERVICE, request_id=request_id, reason=str(error))
        return {"isAuthorized": True, "context": {"owner": "", "denied": error.denial}}
    except KeysUnavailableError as error:
        log("ERROR", "keys unavailable", SERVICE, request_id=request_id, reason=str(error))
        return {"isAuthorized": True, "context": {"owner": "", "denied": Denial.UNCHECKED}}
    log("INFO", "allowed", SERVICE, request_id=request_id, owner=key.owner, key_id=key.key_id)
    return {"isAuthorized": True, "context": {"owner": key.owner, "key_id": key.key_id}}


def key_of(headers: Mapping[str, str | None]) -> str:
    """The key that a request carries: ``Authorization: Bearer <key>``, or ``X-API-Key: <key>``.

    Names of headers are in any case; API Gateway joins those that come twice with a comma, which no key has.

    Raises:
        DeniedError: there is none, there are two, or there is something else where one should be.
    """
    found = {name.lower(): (value or "").strip() for name, value in headers.items()}
    keys = {found["x-api-key"]} if found.get("x-api-key") else set()
    if found.get("authorization"):
        scheme, _, key = found["authorization"].partition(" ")
        if scheme.lower() != "bearer":
            raise DeniedError("no bearer")
        keys.add(key.strip())
    if not keys:
        raise DeniedError("no key", Denial.MISSING)
    if len(keys) > 1:
        # A proxy between the caller and this function may have looked at the other one.
        raise DeniedError("two keys")
    return keys.pop()
