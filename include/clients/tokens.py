"""Tokens of partners: one cache, and the two ways to get one: OAuth2 client credentials, and a login with two keys."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlencode

from include.clients.http import TIMEOUT_SECONDS, HttpClient, Response, body_of, raise_for_status, retry_after_seconds
from include.errors import ApiUnavailableError, AuthRefusedError, Backoff, InvalidAnswerError, PermanentError

REFRESH_EARLY_SECONDS = 60.0
"""A token is replaced this long before it expires, so that it does not expire on its way."""

DEFAULT_LIFETIME_SECONDS = 300.0
"""Lifetime assumed when the server does not say (``expires_in`` is optional: RFC 6749, 5.1), or not readably."""

KEY_LOGIN_SECONDS = 3000.0
"""A token of a login with keys is used for 50 minutes (spec: call_details, API)."""

MAX_REFUSED = 3
FRUITLESS_SECONDS = 60.0
"""If so many tokens in a row are refused and none of them ever served, the next one is fetched this much later: an API
that refuses every call must not get a login for each."""

_MAX_ANSWER_BYTES = 1024 * 1024
_REFUSALS = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_BUSY = ("server_error", "temporarily_unavailable")
"""Error codes of a server that failed, with whatever status (RFC 6749, 4.1.2.1; some use them here too)."""
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
class Grant:
    """What a login brought: the token, and for how many seconds it may be used."""

    value: str = field(repr=False)
    seconds: float


@dataclass(frozen=True, eq=False)
class Token:
    """A token in use.

    Args:
        value: sent as ``Bearer``.
        at: when it was fetched, on the cache's clock.
        until: when it is replaced.
        refused_before: how many in a row before it were refused and never served.
    """

    value: str = field(repr=False)
    at: float
    until: float
    refused_before: int


class Answered(Protocol):
    """What became of a call: :class:`include.clients.http.Response`, or a failure."""

    @property
    def status(self) -> int | None:
        """Of the response; None if there was none."""


class TokenCache:
    """Fetches, shares and renews a token. Concurrent callers share one login, and its failure (single flight).

    Refused credentials are not tried again by this object: hundreds of wrong logins would lock the account. It may be
    used by one event loop after another. The token lives here only.

    Args:
        fetch: logs in once; see :func:`client_credentials` and :func:`key_login`.
        attempts: how often one login is tried in all, unless it asks to wait for more than a minute.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Grant]],
        *,
        attempts: int = 1,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._fetch = fetch
        self._attempts = attempts
        self._clock = clock
        self._sleep = sleep
        self._token: Token | None = None
        self._accepted: Token | None = None
        self._believe_403_until = -math.inf
        self._refusal: AuthRefusedError | None = None
        self._fetching: asyncio.Task[Token] | None = None
        self.logins = 0
        """How often a login was tried."""

    async def token(self, *, refused: Token | None = None) -> Token:
        """A token to call with, in place of one that the API has just ``refused``, unless another has no prospects.

        Raises:
            AuthRefusedError: the credentials are refused.
            ApiUnavailableError: the login cannot be reached or fails.
            ApiRefusedError: it answered a status that a retry does not change.
            InvalidAnswerError: it answered something that is no token.
        """
        known = self._token
        if known is not None and (now := self._clock()) < known.until:
            fruitless = self._refused_by_now(known) >= MAX_REFUSED and now - known.at < FRUITLESS_SECONDS
            if known is not refused or fruitless:
                return known
        if self._refusal is not None:
            raise self._refusal
        if self._fetching is None:
            refused_before = 0 if known is None or known is not refused else self._refused_by_now(known)
            self._fetching = asyncio.create_task(self._fetch_once(refused_before))
        # Shielded: a caller that is cancelled must not take the login from the others.
        return await asyncio.shield(self._fetching)

    async def call[A: Answered](self, send: Callable[[Token], Awaitable[A]]) -> A:
        """Send with a token; if it is refused, log in again once and repeat. A second refusal is the answer.

        A 401 refuses the token. So does a 403 to a token that was accepted before, as some gateways answer so when it
        has expired; unless the 403 of a moment ago came to a new token as well, and so was about the call. What
        :meth:`token` raises says nothing about the call.
        """
        token = await self.token()
        answer = await send(token)
        forbidden = answer.status == HTTPStatus.FORBIDDEN
        expired = forbidden and token is self._accepted and self._clock() >= self._believe_403_until
        if expired or answer.status == HTTPStatus.UNAUTHORIZED:
            newer = await self.token(refused=token)
            if newer is not token:
                token, answer = newer, await send(newer)
                if expired and answer.status == HTTPStatus.FORBIDDEN:
                    self._believe_403_until = self._clock() + FRUITLESS_SECONDS
        if answer.status is not None and answer.status < HTTPStatus.MULTIPLE_CHOICES:
            self._accepted = token
        return answer

    def _refused_by_now(self, refused: Token) -> int:
        return 0 if refused is self._accepted else refused.refused_before + 1

    async def _fetch_once(self, refused_before: int) -> Token:
        try:
            grant = await self._fetch_patiently()
        except AuthRefusedError as error:
            self._refusal = error
            raise
        finally:
            self._fetching = None
        now = self._clock()
        self._token = Token(grant.value, now, now + grant.seconds, refused_before)
        return self._token

    async def _fetch_patiently(self) -> Grant:
        failures = 0
        while True:
            self.logins += 1
            try:
                return await self._fetch()
            except ApiUnavailableError as error:
                failures += 1
                # Who asks to wait for longer than a task should is not asked before: the wait is for a later try.
                if failures >= self._attempts or (error.retry_after or 0.0) > Backoff.longest:
                    raise
                await self._sleep(Backoff().seconds(failures, error.retry_after))


@dataclass(frozen=True)
class ClientCredentials:
    """What a token is asked for with (RFC 6749, 4.4). The secret is left out of ``repr``.

    Args:
        token_url: absolute URL of the token endpoint.
        scope: space-separated scopes.
        connection: names the endpoint in messages; Airflow masks every URL that stands in a field named ``token_url``.
    """

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str
    connection: str = "dex_api"


def client_credentials(
    asked: ClientCredentials, http: HttpClient | None = None, *, seconds: float = TIMEOUT_SECONDS
) -> Callable[[], Awaitable[Grant]]:
    """A login by OAuth2 client credentials, sent as a form; it ends within ``seconds``."""
    what = f"token endpoint of connection {asked.connection}"
    form = {
        "grant_type": "client_credentials",
        "client_id": asked.client_id,
        "client_secret": asked.client_secret,
        "scope": asked.scope,
    }

    async def fetch() -> Grant:
        kind, body = "application/x-www-form-urlencoded", urlencode(form).encode()
        response, found = await _log_in(http, asked.token_url, kind, body, seconds=seconds, what=what)
        status, error = response.status, found.get("error")
        if error in _BUSY:
            wait = retry_after_seconds(response.headers.get("Retry-After"), now=datetime.now(UTC))
            raise ApiUnavailableError(f"{what} answered {status}: {error}", retry_after=wait)
        if status in _REFUSALS or error:
            reason = error if isinstance(error, str) and error in _ERROR_CODES else "no reason given"
            raise AuthRefusedError(
                f"{what} refused client id {asked.client_id!r} ({status}: {reason}): check login (client id), password "
                "(client secret) and extra.scope of the connection"
            )
        token = _token_of(found, "access_token")
        if token is None:
            raise InvalidAnswerError(
                f"{what} answered {status} without a usable access_token; check that token_url is right"
            )
        lifetime = _lifetime(found.get("expires_in"))
        # A token that lives shorter than the margin is used for half its life rather than never.
        return Grant(token, lifetime - min(REFRESH_EARLY_SECONDS, lifetime / 2))

    return fetch


@dataclass(frozen=True)
class Keys:
    """What to log in to the call-details API with. Both are left out of ``repr``."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


def key_login(
    url: str, keys: Keys, http: HttpClient | None = None, *, seconds: float = TIMEOUT_SECONDS
) -> Callable[[], Awaitable[Grant]]:
    """A login by access key and secret key, sent as JSON; it ends within ``seconds``."""
    what = f"login {url}"
    document = {"accessKey": keys.access_key, "secretKey": keys.secret_key}

    async def fetch() -> Grant:
        body = json.dumps(document).encode()
        response, found = await _log_in(http, url, "application/json", body, seconds=seconds, what=what)
        if response.status in _REFUSALS:
            raise AuthRefusedError(
                f"{what} refused the keys ({response.status}): check the SSM parameters of access key and secret key"
            )
        token = _token_of(found, "token", "access_token")
        if token is None:
            # The answer is not told: it may hold a token under another name.
            raise InvalidAnswerError(f"{what} answered without a usable token or access_token; check extra.auth_url")
        return Grant(token, KEY_LOGIN_SECONDS)

    return fetch


async def _log_in(
    http: HttpClient | None, url: str, kind: str, body: bytes, *, seconds: float, what: str
) -> tuple[Response, dict[str, Any]]:
    """Post once: the response, of a status of success or refusal, and the JSON object in it, if there is one."""
    # Closed after each login: connections belong to an event loop, and the next login may come from another.
    async with http or HttpClient() as client:
        response = await client.exchange(
            "POST",
            url,
            headers={"Content-Type": kind},
            body=body,
            seconds=seconds,
            max_bytes=_MAX_ANSWER_BYTES,
            what=what,
        )
    if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES and response.status not in _REFUSALS:
        raise_for_status(response, what=what)
    try:
        found = json.loads(body_of(response, what=what, max_bytes=_MAX_ANSWER_BYTES))
    except (ValueError, RecursionError):
        found = None
    except PermanentError:
        # A refusal is one whatever its body is.
        if response.status not in _REFUSALS:
            raise
        found = None
    return response, found if isinstance(found, dict) else {}


def _token_of(found: Mapping[str, object], *names: str) -> str | None:
    """The first of these members that can be sent in a header, without white space around it."""
    texts = (value.strip() for name in names if isinstance(value := found.get(name), str))
    return next((text for text in texts if text.isascii() and text.isprintable() and text and " " not in text), None)


def _lifetime(expires_in: object) -> float:
    try:
        seconds = float(expires_in)  # type: ignore[arg-type] # whatever it is
    except (TypeError, ValueError, OverflowError):
        return DEFAULT_LIFETIME_SECONDS
    # Taken at its word, a token that lives hardly any time would cost a login per call. float() reads true as 1.
    readable = math.isfinite(seconds) and seconds >= 1 and expires_in is not True
    return seconds if readable else DEFAULT_LIFETIME_SECONDS
