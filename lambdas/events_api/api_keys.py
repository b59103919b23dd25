"""API keys: how they are made, what the table keeps of them, and whose key a key is."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.common import aws

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ITERATIONS = 50_000
"""15 ms of a core, which is 26 ms at the authorizer's 1024 MB. A key is no password: behind its id are 142 random bits,
which cannot be guessed at any speed."""

MAX_AGE_SECONDS = 60.0
"""So long may a key still be accepted after it was revoked, in a function that has seen it before."""

MAX_CACHED = 1_000
"""Keys that a function caches at once."""

_ALPHABET = string.ascii_letters + string.digits
_PREFIX = "sk_"
_CHARACTERS = 32
_ID_CHARACTERS = 8
_PATTERN = re.compile(rf"{_PREFIX}[A-Za-z0-9]{{{_CHARACTERS}}}", re.ASCII)
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}", re.ASCII)
_SALT_BYTES = 16


def is_key(text: str) -> bool:
    """Whether this could be a key."""
    return _PATTERN.fullmatch(text) is not None


def is_owner(text: str) -> bool:
    """Whether an owner may have this name: it stands in logs and in keys of indexes."""
    return _OWNER.fullmatch(text) is not None


def new_key() -> str:
    """A new key; its id may be taken."""
    return _PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_CHARACTERS))


def id_of(key: str) -> str:
    """The part of a key that is no secret: it finds the key's hash."""
    return key.removeprefix(_PREFIX)[:_ID_CHARACTERS]


@dataclass(frozen=True)
class KeyHash:
    """Salted PBKDF2 of a whole key; salt and hash in hexadecimal digits."""

    salt: str
    hash: str
    iterations: int = ITERATIONS

    @classmethod
    def of(cls, key: str) -> KeyHash:
        """The hash of a key, with a salt of its own."""
        salt = secrets.token_hex(_SALT_BYTES)
        return cls(salt, _hash(key, salt, ITERATIONS))

    def matches(self, key: str) -> bool:
        """Whether it is this key's. The time does not depend on where they differ."""
        return hmac.compare_digest(_hash(key, self.salt, self.iterations), self.hash)


def _hash(key: str, salt: str, iterations: int) -> str:
    return hashlib.pbkdf2_hmac("sha256", key.encode(), bytes.fromhex(salt), iterations).hex()


NO_KEY = KeyHash(salt="00" * _SALT_BYTES, hash="")
"""Matches no key and takes as long as any other: the time of a refusal does not reveal whether its id is known."""


class Denial(StrEnum):
    """Why a request has no owner."""

    MISSING = "missing"
    REFUSED = "refused"
    THROTTLED = "throttled"
    UNCHECKED = "unchecked"


class DeniedError(Exception):
    """The request has no valid key; the message names the reason in a word and quotes nothing."""

    def __init__(self, reason: str, denial: Denial = Denial.REFUSED) -> None:
        super().__init__(reason)
        self.denial = denial


class KeysUnavailableError(Exception):
    """The table of keys cannot be read: no request can be let in or denied."""


@dataclass(frozen=True)
class ApiKey:
    """A valid key: whose events it opens, and its id, which is no secret."""

    owner: str
    key_id: str


def dynamodb_client() -> DynamoDBClient:
    """A client whose two attempts end within five seconds."""
    return cast("DynamoDBClient", aws.client("dynamodb", connect_seconds=0.5, read_seconds=1, attempts=2))


class ApiKeyStore:
    """Checks keys against one table.

    ``clock`` gives seconds of a wall clock: another may stand still while a function is frozen between two calls.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str, *, clock: Callable[[], float]) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._clock = clock
        # By a digest of the key, so that the key itself is not kept. Only valid keys: others come in any number, and a
        # key that is made later must be accepted at once.
        self._cache: dict[bytes, tuple[float, ApiKey]] = {}

    def find(self, key: str) -> ApiKey:
        """Whose key this is.

        Raises:
            DeniedError: it is none, or was revoked.
            KeysUnavailableError: the table cannot be read.
        """
        if not is_key(key):
            raise DeniedError("malformed")
        digest = hashlib.sha256(key.encode()).digest()
        now = self._clock()
        if digest in self._cache:
            seen_at, found = self._cache[digest]
            if 0 <= now - seen_at < MAX_AGE_SECONDS:
                return found
            del self._cache[digest]
        found = self._read(key)
        if len(self._cache) >= MAX_CACHED:
            self._cache.clear()
        # As old as the question: the key may have been revoked while the answer was on its way.
        self._cache[digest] = (now, found)
        return found

    def _read(self, key: str) -> ApiKey:
        key_id = id_of(key)
        try:
            found = self._dynamodb.get_item(TableName=self._table, Key={"key_id": {"S": key_id}}, ConsistentRead=True)
        except (ClientError, BotoCoreError) as error:
            raise KeysUnavailableError(aws.error_code(error)) from None
        item = found.get("Item")
        kept = KeyHash(item["salt"]["S"], item["hash"]["S"], int(item["iterations"]["N"])) if item else NO_KEY
        # In this order: the time must not show either whether an id is known, or its key was revoked.
        if not kept.matches(key) or item is None:
            raise DeniedError("unknown")
        if "revoked_at" in item:
            raise DeniedError("revoked")
        return ApiKey(item["owner"]["S"], key_id)


class KeyUsage:
    """Limits the requests of each key in a minute, counted in the table by all copies of the function together.

    Each copy adds what it has counted in parts of a hundredth of the limit, so a key may make a few more. ``clock``
    gives seconds since the epoch.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str, *, limit: int, clock: Callable[[], float]) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._limit = limit
        self._part = max(1, limit // 100)
        self._clock = clock
        self._counts: dict[str, _Count] = {}

    def count(self, key_id: str) -> None:
        """Count a request of a valid key; raises DeniedError if it has made too many, unless the table fails."""
        minute = int(self._clock() // 60)
        count = self._counts.get(key_id)
        if count is None or count.minute != minute:
            if len(self._counts) >= MAX_CACHED:
                self._counts.clear()
            count = self._counts[key_id] = _Count(minute)
        count.unsent += 1
        if count.total < self._limit and count.unsent >= self._part:
            count.total, count.unsent = self._add(key_id, count), 0
        if count.total + count.unsent > self._limit:
            raise DeniedError("throttled", Denial.THROTTLED)

    def _add(self, key_id: str, count: _Count) -> int:
        """Add to the key's requests in this minute, and return how many there are then, as far as that is known."""
        # The second one begins a minute. If another copy does so meanwhile, this part is not counted.
        for update, condition in (
            ("SET minute_requests = minute_requests + :unsent", "counted_minute = :minute"),
            (
                "SET counted_minute = :minute, minute_requests = :unsent",
                "attribute_exists(key_id) AND NOT counted_minute >= :minute",
            ),
        ):
            try:
                answer = self._dynamodb.update_item(
                    TableName=self._table,
                    Key={"key_id": {"S": key_id}},
                    UpdateExpression=update,
                    ConditionExpression=condition,
                    ExpressionAttributeValues={
                        ":minute": {"N": str(count.minute)},
                        ":unsent": {"N": str(count.unsent)},
                    },
                    ReturnValues="UPDATED_NEW",
                )
                return int(answer["Attributes"]["minute_requests"]["N"])
            except (ClientError, BotoCoreError) as error:
                if aws.error_code(error) != aws.CONDITION_FAILED:
                    break
        return count.total + count.unsent


@dataclass
class _Count:
    """Requests of a key in a minute since the epoch, as one copy of the function knows them; ``total`` in the table."""

    minute: int
    total: int = 0
    unsent: int = 0
