"""HTTP clients for many calls at once, each used by one call at a time and then by the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from include.clients.rest import tls_context


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
