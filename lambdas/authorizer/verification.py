"""The token that a request carries: whether it is valid, and whose it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import jwt
from jwt.exceptions import InvalidJTIError, InvalidSubjectError

from lambdas.authorizer.signing_keys import DeniedError, MissingTokenError, SigningKeys

MAX_CHARACTERS = 8_192
"""A token of ours has about 200. Longer ones are refused before anything is decoded."""


def token_of(event: Mapping[str, Any]) -> str:
    """The token of a REQUEST authorizer's event, header names in any case: ``Bearer <token>``, or the token alone.

    Raises:
        MissingTokenError: there is no Authorization header, or it is empty.
        DeniedError: there are two, or it is too long or no bearer token.
    """
    values = _header_values(event, "authorization")
    if not any(value.strip() for value in values):
        raise MissingTokenError
    if len(values) > 1:
        # A proxy between the caller and this function may use the other one.
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
    """Checks tokens, which one of the keys must have signed.

    ``aud`` must be the audience, or hold it if it is a list, and ``iss`` the issuer; None = not checked.
    """

    def __init__(self, keys: SigningKeys, *, audience: str | None, issuer: str | None) -> None:
        self._keys = keys
        self._audience = audience
        self._issuer = issuer

    def subject(self, token: str) -> str:
        """Whom the token speaks for.

        Raises:
            DeniedError: it is not valid; the message names the claim that is missing or wrong, or the kind of fault.
            KeysUnavailableError: it cannot be checked.
        """
        try:
            claims = self._claims(token)
        except _REFUSALS as error:
            raise DeniedError(_fault(error)) from None
        # PyJWT takes anything that int() takes, such as true and "99999999999"; RFC 7519 has numbers only.
        for name in _TIMES:
            if name in claims and not (type(claims[name]) in (int, float) and 0 <= claims[name] <= _LATEST_TIME):
                raise DeniedError(f"claim {name} is no time")
        subject: str = claims["sub"]
        if not is_subject(subject):
            raise DeniedError("claim sub cannot be used")
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


_CLAIM_ERRORS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "claim exp is past",
    jwt.InvalidAudienceError: "claim aud is wrong",
    jwt.InvalidIssuerError: "claim iss is wrong",
    InvalidJTIError: "claim jti is no text",
    InvalidSubjectError: "claim sub is no text",
    # PyJWT's int() raises them, and does not say of which.
    OverflowError: "claim exp, iat or nbf is no time",
    TypeError: "claim exp, iat or nbf is no time",
}
_CLAIM_IN_MESSAGE = re.compile(r"\((exp|iat|nbf)\)")


def _fault(error: Exception) -> str:
    """What is wrong with a token: the claim by name, or the name of the error; quotes nothing of the token."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"claim {error.claim} is missing"
    if claim := _CLAIM_IN_MESSAGE.search(str(error)):
        return f"claim {claim[1]} is {'in the future' if isinstance(error, jwt.ImmatureSignatureError) else 'no time'}"
    return _CLAIM_ERRORS.get(type(error), type(error).__name__)
