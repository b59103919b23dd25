"""Posts to webhooks of strangers: bounded in time and size, and to public addresses only (spec: events, Safe)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, cast

import httpcore
import httpx

from include.clients.delivery import Failure, failure_of
from include.clients.public_address import NotPublicError
from include.clients.rest import tls_context

POST_SECONDS = 10.0
"""Deadline of one whole exchange, from the name's lookup to the last byte that is read."""

_MAX_ANSWER_BYTES = 1024
"""What is read of an answer's body, and thrown away, to use the connection again; of a longer one it is closed."""

_BODY_SECONDS = 1.0
"""How long that may take: the status has been seen, and nothing depends on the rest."""

_KEEP_SECONDS = 3.0
"""How long a connection is kept between two posts: less than servers keep theirs, so that none is used half closed."""

_BROKEN = (OSError, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)
"""How a connection ends badly. ``OSError`` has the time-outs, and also the errors of TLS after its handshake, which the
libraries below httpcore hand on as they are."""


@dataclass(frozen=True)
class Reply:
    """What a receiver said.

    Args:
        status: of the answer; None if there was none.
        failure: why it is no acceptance; None if it is.
    """

    status: int | None
    failure: Failure | None = None

    @property
    def accepted(self) -> bool:
        """The receiver answered 2xx in time."""
        return self.failure is None


class Receiver:
    """One webhook. Use as ``async with Receiver(...)``; one post at a time, over one connection while it is good.

    httpcore is used without httpx on top, which would only add what must not be here: proxies of the environment,
    redirects, cookies. It also takes half the time.

    Args:
        url: as the owner gave it.
        network: makes connections, and decides which may be made.
        https_only: False also posts to http, as the local stack needs.
        seconds: see :data:`POST_SECONDS`.
        clock: seconds since the epoch, that a ``Retry-After`` with a date is compared with.
    """

    def __init__(
        self,
        url: str,
        network: httpcore.AsyncNetworkBackend,
        *,
        https_only: bool = True,
        seconds: float = POST_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = usable_url(url, https_only=https_only)
        self._network = network
        self._seconds = seconds
        self._clock = clock
        self._connection: httpcore.AsyncHTTPConnection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; the next post makes another."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(*_BROKEN):
                await connection.aclose()

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Post once.

        Args:
            body: JSON, sent as it is.
            headers: beside those that HTTP itself needs.

        Returns:
            what the receiver said; its body is neither kept nor told.
        """
        if self._url is None:
            return _failed("the URL cannot be used")
        own = {"Host": self._url.netloc.decode("ascii"), "Content-Length": str(len(body)), "User-Agent": "webhooks"}
        request = httpcore.Request(
            "POST",
            httpcore.URL(
                scheme=self._url.raw_scheme, host=self._url.raw_host, port=self._url.port, target=self._url.raw_path
            ),
            headers=[(name.encode(), value.encode()) for name, value in {**own, **headers}.items()],
            content=body,
        )
        deadline = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(deadline):
                response = await (await self._connect(request)).handle_async_request(request)
        except TimeoutError:
            await self.close()
            return _failed(f"no answer within {self._seconds:g} s")
        except _BROKEN as error:
            await self.close()
            known = isinstance(error, NotPublicError)
            return _failed(str(error) if known else f"connection failed: {type(error).__name__}")
        await self._read_on(response, deadline)
        if 200 <= response.status < 300:
            return Reply(response.status)
        answer = httpx.Response(response.status, headers=response.headers)
        return Reply(response.status, failure_of(answer, now=datetime.fromtimestamp(self._clock(), UTC)))

    async def _connect(self, request: httpcore.Request) -> httpcore.AsyncHTTPConnection:
        if self._connection is not None and (self._connection.is_closed() or self._connection.has_expired()):
            await self.close()
        if self._connection is None:
            self._connection = httpcore.AsyncHTTPConnection(
                request.url.origin,
                ssl_context=tls_context(),
                keepalive_expiry=_KEEP_SECONDS,
                network_backend=self._network,
            )
        return self._connection

    async def _read_on(self, response: httpcore.Response, deadline: float) -> None:
        """Read a short body to its end; otherwise the connection is closed."""
        until = min(deadline, asyncio.get_running_loop().time() + _BODY_SECONDS)
        read = 0
        try:
            stream = cast("AsyncGenerator[bytes]", response.aiter_stream())
            async with asyncio.timeout_at(until), aclosing(stream) as pieces:
                async for piece in pieces:
                    read += len(piece)
                    if read > _MAX_ANSWER_BYTES:
                        break
            # Closes the connection too if the body was not read to its end.
            await response.aclose()
        except _BROKEN:
            await self.close()


def usable_url(text: str, *, https_only: bool) -> httpx.URL | None:
    """A webhook's URL, or None if it is none that may be posted to.

    Args:
        text: as the owner gave it.
        https_only: refuse http.
    """
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        return None
    schemes = ("https",) if https_only else ("https", "http")
    # Not `host`, which decodes names in Punycode and raises at some that name servers know.
    usable = url.scheme in schemes and url.raw_host and 0 < (url.port or 1) < 2**16
    # The signature authenticates us; whatever stands in a URL is shown where URLs are shown.
    return url if usable and not url.userinfo else None


def _failed(why: str) -> Reply:
    return Reply(None, Failure(None, why, retryable=True))
