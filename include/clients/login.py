"""The login of the call-details API: two keys for a token, shared by all calls of the process."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx

from include.clients.backoff import retry_delay
from include.clients.rest import TIMEOUT_SECONDS, raise_for_status, tls_context
from include.errors import ApiRefusedError, ApiUnavailableError, AuthRefusedError, InvalidAnswerError

TOKEN_SECONDS = 3000.0
"""A token is used for 50 minutes (spec: ingest, API)."""

MAX_REFUSED = 3
FRUITLESS_SECONDS = 60.0
"""If so many tokens in a row are refused and none of them ever served, the next one is fetched this much later: an API
that refuses every call must not get a login for each."""

_MAX_ANSWER_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Keys:
    """What to log in with. Both are left out of ``repr``."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


@dataclass(frozen=True, eq=False)
class Token:
    """A token of the API.

    Args:
        value: sent as ``Bearer``.
        at: when it was fetched, on the login's clock.
        refused_before: how many in a row before it were refused and never served.
    """

    value: str = field(repr=False)
    at: float
    refused_before: int


class Login:
    """Fetches, shares and renews the token. Concurrent callers share one login, and its failure (single flight).

    Refused keys are not tried again by this object: hundreds of wrong logins would lock the account. It may be used by
    one event loop after another.

    Args:
        url: absolute URL of the login.
        keys: what to log in with.
        attempts: how often one login is tried in all.
        transport: stands in for the network in tests.
        clock: monotonic seconds.
        sleep: as ``asyncio.sleep``.
    """

    def __init__(
        self,
        url: str,
        keys: Keys,
        *,
        attempts: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._url = url
        self._keys = keys
        self._attempts = attempts
        self._sleep = sleep
        self._transport = transport
        self._clock = clock
        self._token: Token | None = None
        self._accepted: Token | None = None
        self._refusal: AuthRefusedError | None = None
        self._fetching: asyncio.Task[Token] | None = None
        self.calls = 0

    async def token(self, *, refused: Token | None = None) -> Token:
        """A token to call with.

        Args:
            refused: one that the API has just refused. The same one comes back if logging in again has no prospects.

        Raises:
            AuthRefusedError: the keys are refused.
            ApiUnavailableError: the login cannot be reached or fails.
            ApiRefusedError: it answered a status that a retry does not mend.
            InvalidAnswerError: it answered something that is no token.
        """
        known = self._token
        if known is not None:
            age = self._clock() - known.at
            fruitless = self._refused_by_now(known) >= MAX_REFUSED and age < FRUITLESS_SECONDS
            if age < TOKEN_SECONDS and (known is not refused or fruitless):
                return known
        if self._refusal is not None:
            raise self._refusal
        if self._fetching is None:
            refused_before = 0 if known is None or known is not refused else self._refused_by_now(known)
            self._fetching = asyncio.create_task(self._fetch_once(refused_before))
        # Shielded: a caller that is cancelled must not take the login from the others.
        return await asyncio.shield(self._fetching)

    def accepted(self, token: Token) -> None:
        """Learn that the API took a token."""
        self._accepted = token

    def _refused_by_now(self, refused: Token) -> int:
        return 0 if refused is self._accepted else refused.refused_before + 1

    async def _fetch_once(self, refused_before: int) -> Token:
        try:
            self._token = Token(await self._fetch_patiently(), self._clock(), refused_before)
        except AuthRefusedError as error:
            self._refusal = error
            raise
        finally:
            self._fetching = None
        return self._token

    async def _fetch_patiently(self) -> str:
        for failures in range(1, self._attempts):
            try:
                return await self._fetch()
            except ApiUnavailableError as error:
                await self._sleep(retry_delay(failures, error.retry_after))
        return await self._fetch()

    async def _fetch(self) -> str:
        what = f"login {self._url}"
        body = {"accessKey": self._keys.access_key, "secretKey": self._keys.secret_key}
        self.calls += 1
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                httpx.AsyncClient(transport=self._transport, timeout=TIMEOUT_SECONDS, verify=tls_context()) as http,
                http.stream("POST", self._url, json=body, headers={"Accept-Encoding": "identity"}) as response,
            ):
                _check_status(response, what)
                answer = bytearray()
                async for piece in response.aiter_bytes():
                    answer += piece
                    if len(answer) > _MAX_ANSWER_BYTES:
                        raise InvalidAnswerError(f"{what} sent more than {_MAX_ANSWER_BYTES:,} bytes")
        except (TimeoutError, httpx.TimeoutException) as error:
            raise ApiUnavailableError(f"{what} did not answer within {TIMEOUT_SECONDS:g} s") from error
        except httpx.TransportError as error:
            raise ApiUnavailableError(f"connection to the {what} failed: {type(error).__name__}") from error
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise ApiRefusedError(f"{what}: {type(error).__name__}; check extra.auth_url of the connection") from error
        return _read_token(bytes(answer), what)


def _check_status(response: httpx.Response, what: str) -> None:
    if response.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise AuthRefusedError(
            f"{what} refused the keys ({response.status_code}): check the SSM parameters of access key and secret key"
        )
    if response.status_code != HTTPStatus.CREATED:
        raise_for_status(response, what=what)


def _read_token(answer: bytes, what: str) -> str:
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        document = None
    found = document if isinstance(document, dict) else {}
    token = found.get("token") or found.get("access_token")
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
        # The answer is not told: it may hold a token under another name.
        raise InvalidAnswerError(f"{what} answered without a usable token or access_token; check extra.auth_url")
    return token
