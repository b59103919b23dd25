"""An httpx transport on aiohttp's connections: for thousands of calls a second from one process.

A call costs a third of the CPU that httpx's own connections take, which is what limits how fast a task can post.
Whoever calls it gives and gets httpx's requests, answers and errors.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx

from include.clients.rest import tls_context

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
