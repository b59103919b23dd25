"""API keys: how they are made, and what is kept of them."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass

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
