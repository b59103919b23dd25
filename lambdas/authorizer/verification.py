"""Whether a token is valid, and whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import jwt

from lambdas.authorizer.errors import DeniedError
from lambdas.authorizer.keys import SigningKeys

ALGORITHM = "HS256"
LEEWAY_SECONDS = 30
MAX_SUBJECT_CHARACTERS = 256

_TIMES = ("exp", "iat", "nbf")
_LATEST_TIME = 253_402_300_799
"""The end of the year 9999."""

# PyJWT raises others than its own when a claim is of a kind that it does not expect, such as an infinite ``exp``.
_REFUSALS = (jwt.PyJWTError, ArithmeticError, RecursionError, TypeError, ValueError)


def is_subject(text: str) -> bool:
    """Whether a token may speak for this: it goes into logs and into the request that the function behind gets."""
    return 0 < len(text) <= MAX_SUBJECT_CHARACTERS and text.isprintable()


class TokenVerifier:
    """Checks tokens.

    Args:
        keys: one of which must have signed the token.
        audience: that ``aud`` must be, or hold if it is a list; None = not checked.
        issuer: that ``iss`` must be; None = not checked.
    """

    def __init__(self, keys: SigningKeys, *, audience: str | None, issuer: str | None) -> None:
        self._keys = keys
        self._audience = audience
        self._issuer = issuer

    def subject(self, token: str) -> str:
        """Whom the token speaks for.

        Raises:
            DeniedError: it is not valid; the message is the kind of fault.
            KeysUnavailableError: it cannot be checked.
        """
        try:
            claims = self._claims(token)
        except _REFUSALS as error:
            raise DeniedError(type(error).__name__) from None
        # PyJWT takes anything that int() takes, such as true and "99999999999"; RFC 7519 has numbers only.
        if not all(
            type(claims[name]) in (int, float) and 0 <= claims[name] <= _LATEST_TIME
            for name in _TIMES
            if name in claims
        ):
            raise DeniedError("time is no time")
        subject: str = claims["sub"]
        if not is_subject(subject):
            raise DeniedError("subject cannot be used")
        return subject

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            return self._signed_by_one_of(token, self._keys.kept())
        except jwt.InvalidSignatureError:
            # Forged; or signed with the newest key, after the secret was rotated.
            keys = self._keys.read_again()
            if not keys:
                raise
            return self._signed_by_one_of(token, keys)

    def _signed_by_one_of(self, token: str, keys: Sequence[str]) -> dict[str, Any]:
        for key in keys[:-1]:
            with suppress(jwt.InvalidSignatureError):
                return self._signed_by(token, key)
        return self._signed_by(token, keys[-1])

    def _signed_by(self, token: str, key: str) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            # Fixed: a token that chose its own could choose "none".
            algorithms=[ALGORITHM],
            audience=self._audience,
            issuer=self._issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "sub"], "verify_aud": self._audience is not None},
        )
