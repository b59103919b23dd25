"""The keys that tokens may be signed with: the secret's current version, and the one before it.

The messages of the errors are for the log: every caller gets the same answer.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.common import aws

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


class MissingTokenError(Exception):
    """The request has no Authorization header, or an empty one."""


class DeniedError(Exception):
    """The request has something that is no valid token; the message names the reason and quotes nothing of it."""


class KeysUnavailableError(Exception):
    """The signing key cannot be read, or is none: no token can be checked."""


logger = logging.getLogger(__name__)

MAX_AGE_SECONDS = 300.0
"""So long after a second rotation may the key of two rotations ago still be taken."""

MAX_OUTAGE_SECONDS = 3_600.0
"""So long do the keys serve that were read last, while Secrets Manager does not answer."""

RETRY_SECONDS = 5.0
"""Between two tries of a function that has keys to go on with: each may hold up its caller for some seconds."""

MIN_AGE_SECONDS = 1.0
"""Forged tokens cannot make a warm function ask Secrets Manager more often than this."""

MIN_KEY_BYTES = 16
"""Shorter ones are refused: an empty secret would let everybody in. The stack makes 64; RFC 7518 asks for 32, but the
key of the system before this one has 29 and must do until it is rotated. PyJWT warns of such a key in the log."""


def secrets_client() -> SecretsManagerClient:
    """A client with which reading both versions, each tried twice, takes at most eight seconds.

    API Gateway gives an authorizer ten, in which it must also start.
    """
    return cast("SecretsManagerClient", aws.client("secretsmanager", connect_seconds=0.5, read_seconds=1, attempts=2))


class SigningKeys:
    """Keeps the keys of a secret for as long as the function is warm, and notices when the secret was rotated.

    Args:
        clock: seconds; a wall clock, because another may stand still while a function is frozen between two calls.
        report: gets the reason when the keys could not be read and the known ones stay in use, which no caller sees.
    """

    def __init__(
        self,
        secrets: SecretsManagerClient,
        secret_id: str,
        *,
        clock: Callable[[], float],
        report: Callable[[str], None] = logger.error,
    ) -> None:
        self._secrets = secrets
        self._secret_id = secret_id
        self._clock = clock
        self._report = report
        self._keys: tuple[str, ...] = ()
        self._current_read_at = float("-inf")
        self._tried_at = float("-inf")
        # Why the last try failed. While it stands, a token that fits none of the keys may fit one that was not read.
        self._failure: str | None = None

    def kept(self) -> tuple[str, ...]:
        """The keys, newest first; read again when they are old.

        Raises:
            KeysUnavailableError: they cannot be read, and there are none, or none younger than MAX_OUTAGE_SECONDS.
        """
        wait = RETRY_SECONDS if self._failure else MAX_AGE_SECONDS
        if self._worn_out() or self._clock() - self._tried_at > wait:
            try:
                self._read()
            except KeysUnavailableError as error:
                if self._worn_out():
                    raise
                self._report(str(error))
        return self._keys

    def read_again(self) -> tuple[str, ...]:
        """The keys as they are now, for a token that fits none of those that were kept; empty when those are new.

        Raises:
            KeysUnavailableError: they cannot be read.
        """
        if self._clock() - self._tried_at > MIN_AGE_SECONDS:
            self._read()
            return self._keys
        if self._failure:
            raise KeysUnavailableError(self._failure)
        return ()

    def _worn_out(self) -> bool:
        return self._clock() - self._current_read_at > MAX_OUTAGE_SECONDS

    def _read(self) -> None:
        try:
            current = self._version("AWSCURRENT")
            if current is None:
                raise KeysUnavailableError(
                    f"secret {self._secret_id} is missing, or has no key of at least {MIN_KEY_BYTES} bytes: put one "
                    "(docs/RUNBOOK.md, Rotate secrets)"
                )
            self._current_read_at = self._clock()
            if current not in self._keys[:1]:
                # Before the other is asked for: who has a token of this key needs no other. Without a rotation, the
                # other is the same as before.
                self._keys = (current,)
            previous = self._version("AWSPREVIOUS")
            self._keys = (current, previous) if previous else (current,)
            self._failure = None
        except KeysUnavailableError as error:
            self._failure = str(error)
            raise
        finally:
            # Afterwards, or slow answers would have the next token that does not fit ask again in the same call.
            self._tried_at = self._clock()

    def _version(self, stage: str) -> str | None:
        """The key at a stage; None when there is none, as before the first rotation, or one that is too short."""
        try:
            answer = self._secrets.get_secret_value(SecretId=self._secret_id, VersionStage=stage)
        except (ClientError, BotoCoreError) as error:
            code = aws.error_code(error)
            if code == "ResourceNotFoundException":
                return None
            raise KeysUnavailableError(code) from None
        key = _key_in(answer.get("SecretString", ""))
        return key if len(key.encode()) >= MIN_KEY_BYTES else None


def _key_in(secret: str) -> str:
    """The key in a secret: its text, or the text ``secret`` of a JSON object; without a line break at its end."""
    try:
        document = json.loads(secret)
    except (ValueError, RecursionError):
        document = None
    key = document.get("secret") if isinstance(document, dict) else secret
    return key.rstrip("\r\n") if isinstance(key, str) else ""
