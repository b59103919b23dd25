"""OAuth2 client credentials (RFC 6749, 4.4) as an ``httpx`` authentication: one login for many calls.

The login of the call-details API: two keys for a token, shared by all calls of the process.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from include.clients.http import TIMEOUT_SECONDS, raise_for_status, retry_delay, tls_context
from include.errors import ApiRefusedError, ApiUnavailableError, AuthRefusedError, InvalidAnswerError

REFRESH_EARLY_SECONDS = 60.0
"""A token is replaced this long before it expires, so that it does not expire on its way."""

DEFAULT_LIFETIME_SECONDS = 300.0
"""Lifetime assumed when the server does not say (``expires_in`` is optional: RFC 6749, 5.1) or says none."""

_ERROR_CODES = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)
"""RFC 6749, 5.2. Any other text of the server is not repeated: it may quote what it was sent."""


@dataclass(frozen=True)
class ClientCredentials:
    """What a token is asked for with. The secret is left out of ``repr``.

    Args:
        token_url: absolute URL of the token endpoint.
        scope: space-separated scopes.
    """

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str


@dataclass(frozen=True)
class _Token:
    value: str = field(repr=False)
    usable_until: float


class ClientCredentialsAuth(httpx.Auth):
    """Adds a bearer token to each request; fetches, shares and renews it.

    Concurrent requests share one login, and its failure (single flight). A 401 leads to one new login and one
    repetition; a second 401 is the answer. Refused credentials are not tried again by this object: hundreds of wrong
    logins would lock the account. The token lives in this object only.

    Args:
        credentials: what to log in with.
        transport: stands in for the network in tests.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        credentials: ClientCredentials,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self._transport = transport
        self._clock = clock
        self._token: _Token | None = None
        self._refusal: AuthRefusedError | None = None
        self._login: asyncio.Task[_Token] | None = None

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send with a valid token; after a 401, log in again once and repeat."""
        token = await self._valid_token(refused=None)
        request.headers["Authorization"] = f"Bearer {token.value}"
        response = yield request
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            token = await self._valid_token(refused=token)
            request.headers["Authorization"] = f"Bearer {token.value}"
            yield request

    async def log_in(self) -> None:
        """Fetch a token unless a valid one is there.

        Raises:
            AuthRefusedError: the credentials are refused.
            ApiUnavailableError: the token endpoint cannot be reached or fails.
            InvalidAnswerError: it answered something that is no token.
        """
        await self._valid_token(refused=None)

    async def _valid_token(self, *, refused: _Token | None) -> _Token:
        known = self._token
        if known is not None and known is not refused and self._clock() < known.usable_until:
            return known
        if self._refusal is not None:
            raise self._refusal
        if self._login is None:
            self._login = asyncio.create_task(self._log_in_once())
        # Shielded: a caller that runs out of time must not take the login from the others.
        return await asyncio.shield(self._login)

    async def _log_in_once(self) -> _Token:
        try:
            self._token = await self._fetch()
        except AuthRefusedError as error:
            self._refusal = error
            raise
        finally:
            self._login = None
        return self._token

    async def _fetch(self) -> _Token:
        asked = self._credentials
        what = f"token endpoint {asked.token_url}"
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                AsyncOAuth2Client(
                    asked.client_id,
                    asked.client_secret,
                    scope=asked.scope,
                    token_endpoint_auth_method="client_secret_post",  # noqa: S106 - the name of a method
                    transport=self._transport,
                    timeout=TIMEOUT_SECONDS,
                    verify=tls_context(),
                ) as session,
            ):
                session.register_compliance_hook("access_token_response", _check_status(what, asked.client_id))
                answer = await session.fetch_token(asked.token_url, grant_type="client_credentials")
            value, expires_in = answer["access_token"], answer.get("expires_in")
            lifetime = DEFAULT_LIFETIME_SECONDS if expires_in is None else float(expires_in)
            # Also not a number: taken at its word, such a token would cost a login per call.
            lifetime = lifetime if lifetime > 0 else DEFAULT_LIFETIME_SECONDS
        except OAuthError as error:
            reason = error.error if str(error.error) in _ERROR_CODES else "no reason given"
            # The cause would be logged as well, and it holds the server's own text.
            raise _refused(what, asked.client_id, reason) from None
        except (TimeoutError, httpx.TimeoutException) as error:
            raise ApiUnavailableError(f"{what} did not answer within {TIMEOUT_SECONDS:g} s") from error
        except httpx.TransportError as error:
            raise ApiUnavailableError(f"connection to the {what} failed: {type(error).__name__}") from error
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise InvalidAnswerError(
                f"{what} answered 200 without a usable access_token; check that token_url is right"
            ) from None
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
            raise InvalidAnswerError(f"{what} answered 200 with an access_token that is no plain text")
        # A token that lives shorter than the margin is used for half its life rather than never.
        margin = min(REFRESH_EARLY_SECONDS, lifetime / 2)
        return _Token(value, self._clock() + lifetime - margin)


def _check_status(what: str, client_id: str) -> Callable[[httpx.Response], httpx.Response]:
    def check(response: httpx.Response) -> httpx.Response:
        if response.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise _refused(what, client_id, str(response.status_code))
        if response.status_code != HTTPStatus.OK:
            raise_for_status(response, what=what)
        return response

    return check


def _refused(what: str, client_id: str, reason: str) -> AuthRefusedError:
    return AuthRefusedError(
        f"{what} refused client id {client_id!r} ({reason}): check login (client id), password (client secret) "
        "and extra.scope of the connection"
    )


TOKEN_SECONDS = 3000.0
"""A token is used for 50 minutes (spec: call_details, API)."""

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
                _check_login_status(response, what)
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


def _check_login_status(response: httpx.Response, what: str) -> None:
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
