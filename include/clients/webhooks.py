"""Posts to webhooks of strangers: bounded in time and size, and to public addresses only (spec: events, Safe)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import aiohttp
import httpx
from yarl import URL

from include.clients.delivery import Failure, failure_of
from include.clients.public_address import NotPublicError, PublicConnector, PublicNetwork
from include.clients.rest import tls_context

POST_SECONDS = 10.0
"""Deadline of one whole exchange, from the name's lookup to the last byte that is read."""

_MAX_ANSWER_BYTES = 1024
"""What is read of an answer's body, and thrown away, to use the connection again; of a longer one it is closed."""

_BODY_SECONDS = 1.0
"""How long that may take: the status has been seen, and nothing depends on the rest."""

_KEEP_SECONDS = 3.0
"""How long a connection is kept between two posts: less than servers keep theirs, so that none is used half closed."""

_MAX_HEADER_BYTES = 65_536
"""Of one header. aiohttp takes 8 KB otherwise, which some sites' policies exceed: they would get every event again."""

_BROKEN = (OSError, aiohttp.ClientError)
"""How a connection ends badly. ``OSError`` has the time-outs, and also the errors of TLS after its handshake."""


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

    aiohttp is used with everything left out that must not be here: proxies of the environment, redirects, cookies. A
    post by it takes half the CPU that one by httpx's connections does.

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
        network: PublicNetwork,
        *,
        https_only: bool = True,
        seconds: float = POST_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        usable = usable_url(url, https_only=https_only)
        # As it is: a path or a token in it that was encoded anew would be another one.
        self._target = None if usable is None else URL(str(usable), encoded=True)
        self._network = network
        self._seconds = seconds
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; the next post makes another."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Post once.

        Args:
            body: JSON, sent as it is.
            headers: beside those that HTTP itself needs.

        Returns:
            what the receiver said; its body is neither kept nor told.
        """
        if self._target is None:
            return _failed("the URL cannot be used")
        deadline = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(deadline):
                answer = await self._connected().post(self._target, data=body, headers=headers, allow_redirects=False)
        except TimeoutError:
            await self.close()
            return _failed(f"no answer within {self._seconds:g} s")
        except _BROKEN as error:
            await self.close()
            known = isinstance(error, NotPublicError)
            return _failed(str(error) if known else f"connection failed: {type(error).__name__}")
        await self._read_on(answer, deadline)
        if 200 <= answer.status < 300:
            return Reply(answer.status)
        response = httpx.Response(answer.status, headers=answer.raw_headers)
        return Reply(answer.status, failure_of(response, now=datetime.fromtimestamp(self._clock(), UTC)))

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=PublicConnector(self._network, tls_context(), keep_seconds=_KEEP_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "webhooks"},
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type"),
                # A post has one deadline, which is not aiohttp's.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                auto_decompress=False,
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
            )
        return self._session

    async def _read_on(self, answer: aiohttp.ClientResponse, deadline: float) -> None:
        """Wait for the end of a short body; the connection is closed if it does not come."""
        # Mostly it came with the headers, and the connection has been given back.
        if answer.content.is_eof():
            return
        until = min(deadline, asyncio.get_running_loop().time() + _BODY_SECONDS)
        read = 0
        try:
            async with asyncio.timeout_at(until):
                while read <= _MAX_ANSWER_BYTES and (piece := await answer.content.readany()):
                    read += len(piece)
        except _BROKEN:
            await self.close()
        # Does nothing if the body was read to its end.
        answer.close()


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
