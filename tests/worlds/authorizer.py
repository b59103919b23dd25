"""Tokens for the verifier, and what it says of them."""

import json
import time
from typing import Any

import pytest

from lambdas.authorizer.signing_keys import DeniedError, SigningKeys
from lambdas.authorizer.verification import TokenVerifier
from tests.worlds.tokens import HS256, FakeSecret, claims, forge

KEY, OTHER_KEY = "k" * 64, "o" * 64
NOW = 1_772_443_800


def verifier(
    secret: FakeSecret | None = None, *, audience: str | None = "orders-api", issuer: str | None = None
) -> TokenVerifier:
    keys = SigningKeys(secret or FakeSecret(KEY), "orders-api/jwt", clock=time.time)
    return TokenVerifier(keys, audience=audience, issuer=issuer)


def subject(token: str, **rules: Any) -> str:
    return verifier(**rules).subject(token)


def reason(token: str, **rules: Any) -> str:
    with pytest.raises(DeniedError) as caught:
        subject(token, **rules)
    return str(caught.value)


def signed(**changes: Any) -> str:
    return forge(HS256, claims(**changes), KEY)


def with_header(**changes: Any) -> str:
    return forge({**HS256, **changes}, claims(), KEY)


def written(claim: str) -> str:
    """Signed with the right key; one claim is JSON that comes last, and that ``json`` might not write."""
    return forge(HS256, f"{json.dumps(claims())[:-1]}, {claim}}}".encode(), KEY)
