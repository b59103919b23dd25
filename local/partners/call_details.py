"""The call-details API (spec: call_details): `POST /call-details/login` and `POST /call-details/batches`.

The login takes `{"accessKey", "secretKey"}` and answers `{"token", "expiresIn"}`, a JWT that lives as long as the
control's `token_expires_in`. A batch is `{"records": [...], "timestamp", "batchSize"}` under an `Idempotency-Key`; the
stub applies a key's batch once, as the real API does, and remembers what it was and how often it came.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

import jwt
import msgspec

from local.partners.calls import Answer, Call, Endpoint, Tokens, error_answer, json_answer, same_secret
from local.partners.control import Control

MAX_RECORDS = 500

TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z")
AS_WE_WRITE_IT = re.compile(
    rb'\{"records":\[(?P<records>.*)\],"timestamp":"(?P<timestamp>[^"]*)","batchSize":(?P<size>\d{1,9})\}', re.DOTALL
)


class BadBatchError(ValueError):
    """A body is no batch; the text says why."""


class _Batch(msgspec.Struct):
    records: list[msgspec.Raw]
    timestamp: str
    batchSize: int  # noqa: N815 - the API's own name


_PARSER = msgspec.json.Decoder(_Batch)


def read_batch(body: bytes) -> tuple[int, str]:
    """Return how many records a body holds, and the SHA-256 of them as they were sent, without the brackets around.

    A body that is not written the way the pipeline writes it (with spaces, or in another order) counts as its records
    written anew. Raises BadBatchError saying what is wrong with the body.
    """
    found = AS_WE_WRITE_IT.fullmatch(body)
    if found and _is_batch(body):
        return int(found["size"]), sha256(found["records"]).hexdigest()
    try:
        # Numbers as text, because Python reads none of more than 4,300 digits.
        batch = json.loads(body, parse_int=str, parse_float=str, parse_constant=_refuse)
    except RecursionError:
        if not found:
            raise BadBatchError("the body is nested too deeply") from None
        # Valid, for all we know: this parser is not the measure of a real API.
        batch = {"records": [None] * min(int(found["size"]), MAX_RECORDS + 1), "batchSize": found["size"].decode()}
        batch["timestamp"] = found["timestamp"].decode(errors="replace")
    except ValueError:
        raise BadBatchError("the body must be JSON") from None
    if not isinstance(batch, dict):
        raise BadBatchError("the body must be a JSON object")
    records, timestamp = batch.get("records"), batch.get("timestamp")
    if not isinstance(records, list) or not 1 <= len(records) <= MAX_RECORDS:
        raise BadBatchError(f"records must be an array of 1 to {MAX_RECORDS}")
    if batch.get("batchSize") != str(len(records)):
        raise BadBatchError(f"batchSize must be the number of records, {len(records)}")
    if not isinstance(timestamp, str) or not TIMESTAMP.fullmatch(timestamp):
        raise BadBatchError("timestamp must be YYYY-MM-DDThh:mm:ss.sssZ")
    raw = found["records"] if found else json.dumps(records, separators=(",", ":"))[1:-1].encode()
    return len(records), sha256(raw).hexdigest()


def _is_batch(body: bytes) -> bool:
    """Whether a body is surely a batch: a parser ten times as fast as json's sees what nearly all are, and no more.

    The stub shares its machine with those whose speed is measured.
    """
    try:
        body.decode()
        batch = _PARSER.decode(body)
    except (ValueError, RecursionError):
        return False
    return (
        1 <= len(batch.records) <= MAX_RECORDS
        and batch.batchSize == len(batch.records)
        and bool(TIMESTAMP.fullmatch(batch.timestamp))
    )


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


LOGIN_PATH = "/call-details/login"
BATCH_PATH = "/call-details/batches"
KEY_HEADER = "idempotency-key"
MAX_KEY_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The one pair of keys that the login knows."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


def keys_from_environment(environ: Mapping[str, str] = os.environ) -> ApiKeys | None:
    """Read CALL_DETAILS_ACCESS_KEY and CALL_DETAILS_SECRET_KEY; None, and nobody may log in, if one is missing."""
    access, secret = environ.get("CALL_DETAILS_ACCESS_KEY"), environ.get("CALL_DETAILS_SECRET_KEY")
    return ApiKeys(access, secret) if access and secret else None


@dataclass(slots=True)
class Received:
    """One batch by its idempotency key: how many records, a digest of them, how often it came in all.

    `conflicting` counts those among `times` that held other records than the first.
    """

    records: int
    digest: str
    times: int = 0
    conflicting: int = 0


class CallDetails:
    """The stub; tokens and batches live in memory, `clock` counts seconds for the tokens' expiry."""

    def __init__(self, control: Control, *, clock: Callable[[], float]) -> None:
        self._control = control
        self.tokens = Tokens("call-details", clock)
        self._signing_key = secrets.token_bytes(32)
        self._received: dict[str, Received] = {}

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the login and the endpoint for batches."""
        return (
            Endpoint("POST", LOGIN_PATH, frozenset(), self._log_in),
            Endpoint(
                "POST", BATCH_PATH, frozenset({"idempotencyKey"}), self._take, headers={KEY_HEADER: "idempotencyKey"}
            ),
        )

    def received(self, *, batches: bool) -> dict[str, Any]:
        """Return what was applied: totals, and with `batches` each one by its idempotency key.

        `batches` and `records` count every key once; `times` counts every time that a batch was taken, `repeated`
        the keys that came more than once, `conflicting` the times that a key came with other records.
        """
        each = self._received.values()
        totals = {
            "batches": len(self._received),
            "records": sum(batch.records for batch in each),
            "times": sum(batch.times for batch in each),
            "repeated": sum(batch.times > 1 for batch in each),
            "conflicting": sum(batch.conflicting for batch in each),
        }
        if not batches:
            return totals
        shown = {
            key: {"records": batch.records, "sha256": batch.digest, "times": batch.times}
            for key, batch in self._received.items()
        }
        return totals | {"by_key": shown}

    def forget(self) -> None:
        """Forget all batches."""
        self._received.clear()

    def _log_in(self, call: Call) -> Answer:
        try:
            shown = json.loads(call.body)
        except (ValueError, RecursionError):
            shown = None
        known = keys_from_environment()
        if not isinstance(shown, dict) or not {"accessKey", "secretKey"} <= shown.keys():
            return error_answer(400, "send JSON with accessKey and secretKey", authorized=False)
        if known is None:
            message = "the stub knows no keys: set CALL_DETAILS_ACCESS_KEY and CALL_DETAILS_SECRET_KEY where it runs"
            return error_answer(401, message, authorized=False)
        if not (same_secret(shown["accessKey"], known.access_key) & same_secret(shown["secretKey"], known.secret_key)):
            return error_answer(401, "unknown accessKey or wrong secretKey", authorized=False)
        lifetime = self._control.document.token_expires_in
        issued_at = int(time.time())
        claims = {
            "iss": "call-details-stub",
            "iat": issued_at,
            "exp": issued_at + lifetime,
            "jti": secrets.token_hex(8),
        }
        token = jwt.encode(claims, self._signing_key, algorithm="HS256")
        self.tokens.add(token, lifetime)
        return json_answer(200, {"token": token, "expiresIn": lifetime}, headers=(("cache-control", "no-store"),))

    def _take(self, call: Call) -> Answer:
        if refusal := self.tokens.refusal(call):
            return refusal
        key = call.query.get("idempotencyKey", "")
        if not (0 < len(key) <= MAX_KEY_CHARACTERS and key.isprintable()):
            return error_answer(400, f"Idempotency-Key must be 1 to {MAX_KEY_CHARACTERS} characters")
        try:
            count, digest = read_batch(call.body)
        except BadBatchError as error:
            return error_answer(400, str(error))
        return json_answer(200, {"accepted": count}, effect=partial(self._apply, key, count, digest))

    def _apply(self, key: str, count: int, digest: str) -> None:
        batch = self._received.setdefault(key, Received(count, digest))
        batch.times += 1
        batch.conflicting += (batch.records, batch.digest) != (count, digest)
