"""`events-api-authorizer`: who may call the events API. Only the standard library and botocore: callers wait for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lambdas.common import environment
from lambdas.common.aws import JsonLog
from lambdas.events_api.api_keys import DeniedError, KeyRing, KeysUnavailableError, NoKeyError, dynamodb_client
from lambdas.events_api.caller import Denial

log = JsonLog("events-api-authorizer")
# Made while the function starts: there is more CPU then, and a warm call keeps the connection.
keys = KeyRing(dynamodb_client(), environment.text("API_KEYS_TABLE"), clock=time.time)


def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Answer one request of API Gateway (payload 2.0, simple response): see caller.py for why it lets all through.

    Raises:
        KeysUnavailableError: the key cannot be checked; API Gateway answers 500 and remembers nothing.
    """
    request_id = (event.get("requestContext") or {}).get("requestId")
    try:
        holder = keys.holder(key_of(event.get("headers") or {}))
    except DeniedError as error:
        log.info("denied", request_id=request_id, reason=str(error))
        denied = Denial.MISSING if isinstance(error, NoKeyError) else Denial.REFUSED
        return {"isAuthorized": True, "context": {"owner": "", "denied": denied}}
    except KeysUnavailableError as error:
        log.error("keys unavailable", request_id=request_id, reason=str(error))
        raise
    log.info("allowed", request_id=request_id, owner=holder.owner, key_id=holder.key_id)
    return {"isAuthorized": True, "context": {"owner": holder.owner, "key_id": holder.key_id}}


def key_of(headers: Mapping[str, str | None]) -> str:
    """The key that a request carries: ``Authorization: Bearer <key>``, or ``X-API-Key: <key>``.

    Args:
        headers: names in any case; API Gateway joins those that come twice with a comma, which no key has.

    Raises:
        NoKeyError: there is none.
        DeniedError: there are two, or something else where one should be.
    """
    found = {name.lower(): (value or "").strip() for name, value in headers.items()}
    keys = {found["x-api-key"]} if found.get("x-api-key") else set()
    if found.get("authorization"):
        scheme, _, key = found["authorization"].partition(" ")
        if scheme.lower() != "bearer":
            raise DeniedError("no bearer")
        keys.add(key.strip())
    if not keys:
        raise NoKeyError("no key")
    if len(keys) > 1:
        # Whoever stands between the caller and this function may look at the other one.
        raise DeniedError("two keys")
    return keys.pop()
