"""Tokens as issuers and forgers make them, and the secret that holds the keys."""

import base64
import hmac
import json
import time
from collections import Counter
from typing import Any

from botocore.exceptions import ClientError

HS256 = {"alg": "HS256", "typ": "JWT"}


def claims(**changes: Any) -> dict[str, Any]:
    """What a valid token says, but for ``changes``; a claim that is changed to None is left out."""
    now = int(time.time())
    valid = {"sub": "test-user", "aud": "orders-api", "iat": now, "exp": now + 300}
    return {name: value for name, value in {**valid, **changes}.items() if value is not None}


def forge(header: object, payload: object, key: str | bytes, *, digest: str = "sha256") -> str:
    """A signed token, also one that PyJWT would not make; ``header`` and ``payload`` are JSON values or bytes."""
    signed = f"{_segment(header)}.{_segment(payload)}"
    secret = key.encode() if isinstance(key, str) else key
    return f"{signed}.{_base64(hmac.digest(secret, signed.encode(), digest))}"


def _segment(part: object) -> str:
    return _base64(part if isinstance(part, bytes) else json.dumps(part).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def secrets_manager_error(code: str) -> ClientError:
    """The error that botocore raises when Secrets Manager answers ``code``."""
    return ClientError({"Error": {"Code": code, "Message": code}}, "GetSecretValue")


class FakeSecret:
    """Quacks like a boto3 Secrets Manager client with one secret, or none.

    Args:
        versions: its texts, newest first; only the first two have a stage.
        name: of the secret.

    Reading raises ``failure``, if any; with ``failing_stage``, only of that stage.
    """

    def __init__(self, *versions: str, name: str = "orders-api/jwt") -> None:
        self.versions = list(versions)
        self.name = name
        self.failure: Exception | None = None
        self.failing_stage: str | None = None
        self.reads: Counter[str] = Counter()

    def rotate(self, key: str) -> None:
        """Put a new version; what was current becomes previous."""
        self.versions.insert(0, key)

    def get_secret_value(
        self,
        *,
        SecretId: str,  # noqa: N803 - boto3's names
        VersionStage: str = "AWSCURRENT",  # noqa: N803
    ) -> dict[str, Any]:
        self.reads[VersionStage] += 1
        if self.failure is not None and self.failing_stage in (None, VersionStage):
            raise self.failure
        number = ["AWSCURRENT", "AWSPREVIOUS"].index(VersionStage)
        if SecretId != self.name or number >= len(self.versions):
            raise secrets_manager_error("ResourceNotFoundException")
        return {"SecretString": self.versions[number]}
