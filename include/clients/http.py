"""One HTTP exchange with a deadline, a size limit, and a typed error for every way it can fail.

How long to wait before an API is asked again.

What became of something that was posted to an API, told without anything of what was sent or answered.

HTTP clients for many calls at once, each used by one call at a time and then by the next.

An httpx transport on aiohttp's connections: for thousands of calls a second from one process.

A call costs a third of the CPU that httpx's own connections take, which is what limits how fast a task can post.
Whoever calls it gives and gets httpx's requests, answers and errors.
"""

from __future__ import annotations

import asyncio
import functools
import io
import random
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx

from include.errors import ApiRefusedError, ApiUnavailableError, AuthRefusedError

TIMEOUT_SECONDS = 30.0
"""Deadline of one whole exchange, connection to last byte (spec: archive, Fetch)."""

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Largest body that is read; a partner that streams without end must not exhaust a worker."""

TRANSIENT_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The TLS settings that all clients of the process share: loading the certificates costs some 20 ms."""
    return httpx.create_ssl_context()


def retry_after_seconds(value: str | None, *, now: datetime) -> float | None:
    """Seconds asked for by a ``Retry-After`` header (RFC 9110, 10.2.3): a number or an HTTP date.

    Args:
        value: the header, or None.
        now: an aware time that an HTTP date is compared with.

    Returns:
        seconds, at least 0; None for an absent or unreadable header.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def raise_for_status(response: httpx.Response, *, what: str) -> None:
    """Turn any status but 200 into the error that says whether a retry can mend it.

    Args:
        response: its body need not be read yet.
        what: names the call in the message, such as ``DEX API``.

    Raises:
        ApiUnavailableError: 408, 425, 429 and 5xx, with the ``Retry-After`` it carried.
        AuthRefusedError: 401.
        ApiRefusedError: every other status.
    """
    status = response.status_code
    if status == HTTPStatus.OK:
        return
    message = f"{what} answered {status}"
    if status in TRANSIENT_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        asked = retry_after_seconds(response.headers.get("Retry-After"), now=datetime.now(UTC))
        raise ApiUnavailableError(message, retry_after=asked)
    if status == HTTPStatus.UNAUTHORIZED:
        raise AuthRefusedError(f"{message}: it refuses a token that was just issued")
    raise ApiRefusedError(message)


async def get_body(
    http: httpx.AsyncClient,
    url: str,
    *,
    params: dict[str, str],
    what: str,
    timeout: float = TIMEOUT_SECONDS,
    max_bytes: int = MAX_BODY_BYTES,
) -> bytes:
    """The body of ``GET url``, byte for byte, when the answer is 200.

    Asks for an unencoded body, so that the bytes are those the server wrote (a server that encodes all the same is
    decoded). Redirects are not followed.

    Args:
        http: its authentication, if any, is used.
        url: absolute URL.
        params: the query.
        what: names the call in messages.
        timeout: seconds for the whole exchange, so that a slow drip ends as well.
        max_bytes: a larger body is refused.

    Raises:
        ApiUnavailableError: time-out, connection error, 408, 425, 429, 5xx.
        AuthRefusedError: 401 after the client's authentication did what it could.
        ApiRefusedError: any other status, or a body beyond ``max_bytes``.
    """
    try:
        async with (
            asyncio.timeout(timeout),
            http.stream("GET", url, params=params, headers={"Accept-Encoding": "identity"}) as response,
        ):
            raise_for_status(response, what=what)
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > max_bytes:
                    raise ApiRefusedError(f"{what} sent more than {max_bytes:,} bytes; nothing was kept")
            return bytes(body)
    except (TimeoutError, httpx.TimeoutException) as error:
        raise ApiUnavailableError(f"{what} did not answer in full within {timeout:g} s") from error
    except httpx.TransportError as error:
        raise ApiUnavailableError(f"connection to the {what} failed: {type(error).__name__}") from error
    except httpx.DecodingError as error:
        raise ApiRefusedError(f"{what} sent a body that its Content-Encoding does not fit") from error


FIRST_SECONDS = 1.0
MAX_SECONDS = 60.0
"""Longest wait inside a task, whatever an answer's ``Retry-After`` asks for: what takes longer is for a later try."""


def retry_delay(failures: int, asked: float | None, *, longest: float = MAX_SECONDS) -> float:
    """Seconds to wait: 1, 2, 4, ... and up to half as much again by chance, but not less than what was asked for.

    Args:
        failures: how often the call has failed by now, from 1.
        asked: ``Retry-After`` of the answer, if it had one.
        longest: limit of both, before chance adds to it.
    """
    own = min(FIRST_SECONDS * 2.0 ** (failures - 1), longest) * random.uniform(1.0, 1.5)  # noqa: S311
    # Jitter on top of what was asked for too: many callers were told the same.
    return max(own, min(asked or 0.0, longest) + random.uniform(0.0, 0.5))  # noqa: S311


@dataclass(frozen=True)
class Delivery:
    """What became of one batch.

    Args:
        accepted: the API took it.
        attempts: how often it was sent, the one after a new login not counted.
        status: of the last answer, if the batch was not accepted and there was one.
        error: why it was not accepted, on a short line without anything of the answer's body.
        first_failed_at: when it first failed, if it did.
    """

    accepted: bool
    attempts: int
    status: int | None = None
    error: str | None = None
    first_failed_at: datetime | None = None


@dataclass(frozen=True)
class Failure:
    """Why one attempt failed.

    Args:
        status: of the answer; None if there was none.
        error: on a short line.
        retryable: the same call may work later.
        retry_after: seconds that the answer asked to wait.
    """

    status: int | None
    error: str
    retryable: bool
    retry_after: float | None = None


def failure_of(response: httpx.Response, *, now: datetime) -> Failure | None:
    """What an answer's status says: None if the API accepted.

    Args:
        response: its body need not be read.
        now: an aware time that a ``Retry-After`` with a date is compared with.
    """
    if response.is_success:
        return None
    status = response.status_code
    try:
        text = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        text = str(status)
    retryable = status in TRANSIENT_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    asked = retry_after_seconds(response.headers.get("Retry-After"), now=now) if retryable else None
    return Failure(status, text, retryable, asked)


class Lines:
    """Clients of one connection each.

    One client's pool looks at all its connections on every call, which costs more than the call from some thirty
    connections on.

    Args:
        timeout: seconds, of every step of a call.
        transport: stands in for the network in tests.
        auth: how each call is authenticated, if the client does it.
    """

    def __init__(
        self, *, timeout: float, transport: httpx.AsyncBaseTransport | None, auth: httpx.Auth | None = None
    ) -> None:
        self._timeout = timeout
        self._transport = transport
        self._auth = auth
        self._idle: list[httpx.AsyncClient] = []

    @contextmanager
    def line(self) -> Iterator[httpx.AsyncClient]:
        """A client that nobody else uses during the block."""
        http = self._idle.pop() if self._idle else self._connect()
        # What an answer sets must not be sent along with another call.
        http.cookies.clear()
        try:
            yield http
        finally:
            self._idle.append(http)

    async def close(self) -> None:
        """Close every client; none may be in use."""
        for http in self._idle:
            await http.aclose()

    def _connect(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            auth=self._auth,
            limits=httpx.Limits(max_connections=1),
            timeout=self._timeout,
            transport=self._transport,
            verify=tls_context(),
        )


_IN_ONE_PIECE = 1024 * 1024
"""A larger body is sent in pieces, so that other calls get their turn."""

_IDLE_SECONDS = 5.0
"""A connection is not used again after so long: its server may be about to close it."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Opens as many connections as there are calls at once. Time-outs are the caller's, and so are redirects.

    Usable by one event loop; all its requests go to one host.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the answer's body is still to be read, or to be closed.

        Raises:
            httpx.ConnectError: there is no connection.
            httpx.ReadError: it broke, or what came back is not HTTP.
        """
        if self._session is None:
            self._session = _open(request.url)
        body = request.content
        with _errors_of_httpx():
            answer = await self._session.request(
                request.method,
                str(request.url),
                data=io.BytesIO(body) if len(body) > _IN_ONE_PIECE else body,
                headers=request.headers.multi_items(),
                allow_redirects=False,
            )
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer))

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


class _Body(httpx.AsyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors_of_httpx():
            async for piece in self._answer.content.iter_any():
                yield piece

    async def aclose(self) -> None:
        # One that was read to its end has given its connection back by now; any other's cannot be used again.
        self._answer.close()


def _open(url: httpx.URL) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls_context(), keepalive_timeout=_IDLE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
        # What an answer sets must not be sent along with another call.
        cookie_jar=aiohttp.DummyCookieJar(),
        # As httpx does by itself. Left to aiohttp, it would be looked up in a thread at every call.
        proxy=None if proxy_bypass(url.host) else getproxies().get(url.scheme),
    )


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        raise httpx.ConnectError(type(error).__name__) from error
    except (aiohttp.ClientError, OSError) as error:
        raise httpx.ReadError(type(error).__name__) from error
