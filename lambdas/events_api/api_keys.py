"""Whose key a key is: asked of the table, and remembered for a minute.

API keys: how they are made, and what is kept of them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lambdas.common.aws import error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_ALPHABET = string.ascii_letters + string.digits
_PREFIX = "sk_"
_CHARACTERS = 32
_ID_CHARACTERS = 8
_PATTERN = re.compile(rf"{_PREFIX}[A-Za-z0-9]{{{_CHARACTERS}}}", re.ASCII)
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}", re.ASCII)
_SALT_BYTES = 16

ITERATIONS = 50_000
"""15 ms of a core, which is 26 ms at the authorizer's 1024 MB. A key is no password: behind its id are 142 random bits,
which nobody guesses at any speed."""


def is_key(text: str) -> bool:
    """Whether this could be a key."""
    return _PATTERN.fullmatch(text) is not None


def is_owner(text: str) -> bool:
    """Whether somebody of this name can have keys: it stands in logs and in keys of indexes."""
    return _OWNER.fullmatch(text) is not None


def new_key() -> str:
    """A key that nobody has yet, unless its id is taken."""
    return _PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_CHARACTERS))


def id_of(key: str) -> str:
    """The part of a key that is no secret: it finds what is kept of it."""
    return key.removeprefix(_PREFIX)[:_ID_CHARACTERS]


@dataclass(frozen=True)
class Fingerprint:
    """What tells a key and does not give it away: salted PBKDF2 of the whole key.

    Args:
        salt: in hexadecimal digits.
        hash: the same.
        iterations: the work that a guess costs.
    """

    salt: str
    hash: str
    iterations: int = ITERATIONS

    @classmethod
    def of(cls, key: str) -> Fingerprint:
        """The fingerprint of a key, with a salt of its own."""
        salt = secrets.token_hex(_SALT_BYTES)
        return cls(salt, _hash(key, salt, ITERATIONS))

    def fits(self, key: str) -> bool:
        """Whether it is this key's. The time does not depend on where they differ."""
        return hmac.compare_digest(_hash(key, self.salt, self.iterations), self.hash)


NOBODY = Fingerprint(salt="00" * _SALT_BYTES, hash="")
"""Fits no key, at the price of any other: the time to refuse a key does not tell whether its id is known."""


def _hash(key: str, salt: str, iterations: int) -> str:
    return hashlib.pbkdf2_hmac("sha256", key.encode(), bytes.fromhex(salt), iterations).hex()


MAX_AGE_SECONDS = 60.0
"""So long may a key still be taken after it was revoked, in a function that has seen it before."""

MAX_REMEMBERED = 1_000
"""Keys that a function remembers at once."""


class DeniedError(Exception):
    """The request has no key that opens anything; the message names the reason in a word and quotes nothing."""


class NoKeyError(DeniedError):
    """The request has no key at all."""


class KeysUnavailableError(Exception):
    """The table of keys does not answer: nobody can be let in, and nobody was found wanting."""


@dataclass(frozen=True)
class Holder:
    """Who has a key.

    Args:
        owner: of events.
        key_id: of the key; no secret.
    """

    owner: str
    key_id: str


def dynamodb_client() -> DynamoDBClient:
    """A client so quick to give up that two tries end within five seconds.

    botocore's, not boto3's: the same calls, and less to import during a cold start.
    """
    config = Config(connect_timeout=0.5, read_timeout=1, retries={"mode": "standard", "total_max_attempts": 2})
    return cast("DynamoDBClient", botocore.session.get_session().create_client("dynamodb", config=config))


class KeyRing:
    """Checks keys against one table.

    Args:
        dynamodb: a client.
        table: its name.
        clock: seconds; a wall clock, because another may stand still while a function is frozen between two calls.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str, *, clock: Callable[[], float]) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._clock = clock
        # By a digest of the key, so that the key itself is not kept. Only of keys that were let in: others come in any
        # number, and must not be let in late when they are made.
        self._remembered: dict[bytes, tuple[float, Holder]] = {}

    def holder(self, key: str) -> Holder:
        """Who has this key.

        Raises:
            DeniedError: nobody has, or not any more.
            KeysUnavailableError: nobody knows.
        """
        if not is_key(key):
            raise DeniedError("malformed")
        digest = hashlib.sha256(key.encode()).digest()
        now = self._clock()
        if digest in self._remembered:
            seen_at, holder = self._remembered[digest]
            if 0 <= now - seen_at < MAX_AGE_SECONDS:
                return holder
            del self._remembered[digest]
        holder = self._ask(key)
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        # As old as the question: the key may have been revoked while the answer was on its way.
        self._remembered[digest] = (now, holder)
        return holder

    def _ask(self, key: str) -> Holder:
        key_id = id_of(key)
        try:
            found = self._dynamodb.get_item(TableName=self._table, Key={"key_id": {"S": key_id}}, ConsistentRead=True)
        except (ClientError, BotoCoreError) as error:
            raise KeysUnavailableError(error_code(error)) from None
        item = found.get("Item")
        kept = Fingerprint(item["salt"]["S"], item["hash"]["S"], int(item["iterations"]["N"])) if item else NOBODY
        # In this order: whether an id is known, or its key was revoked, does not show in the time either.
        if not kept.fits(key) or item is None:
            raise DeniedError("unknown")
        if "revoked_at" in item:
            raise DeniedError("revoked")
        return Holder(item["owner"]["S"], key_id)
