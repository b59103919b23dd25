"""Ids of events."""

from __future__ import annotations

import hashlib
import re
import secrets
import string

_ALPHABET = string.digits + string.ascii_lowercase
_LENGTH = 12
_PREFIX = "evt_"
_PATTERN = re.compile(rf"{_PREFIX}[{_ALPHABET}]{{{_LENGTH}}}", re.ASCII)


def is_event_id(text: str) -> bool:
    """Whether an event could have this id."""
    return _PATTERN.fullmatch(text) is not None


def random_id() -> str:
    """An id for an event without an idempotency key. Two of a billion events share one with a chance of one in ten."""
    return _PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def id_for_key(owner: str, idempotency_key: str) -> str:
    """The id of the one event that an owner's idempotency key stands for.

    Whoever posts it, and how many at once: they all ask for the same id, which the table gives away once.
    """
    # Owners have no line breaks, so that no two pairs make the same text.
    number = int.from_bytes(hashlib.sha256(f"{owner}\n{idempotency_key}".encode()).digest())
    characters = []
    for _ in range(_LENGTH):
        number, index = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[index])
    return _PREFIX + "".join(characters)
