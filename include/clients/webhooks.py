"""Posts to webhooks of strangers: bounded in time and size, and to public addresses only (spec: events, Safe).

Connections to public addresses only, whatever a name resolves to (spec: events, Safe).

The host is resolved here, once for each connection. What was checked is what is connected to, so a name server that
answers otherwise the next time gains nothing. TLS and the Host header still see the name.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from ssl import SSLContext
from types import TracebackType
from typing import Protocol, Self

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from include.clients.http import Failure, failure_of, tls_context

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host; the port is for the resolver's hints. Raises ``OSError`` if there are none."""

CONNECT_SECONDS = 3.0
"""For one address of several: the next may answer."""

MAX_ADDRESSES = 4
"""Tried of one answer."""

_PROTOCOLS = IPv4Network("192.0.0.0/24")
"""Kept for protocols (RFC 6890); Python takes most of it for public in some versions."""

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_LOOKUPS = ThreadPoolExecutor(256, thread_name_prefix="lookup")
"""Lookups of their own threads: a name server that hangs must not take those that other work waits for. A lookup goes
on for up to half a minute when its post has given up after ten seconds; so there are four times the 64 posts that a
task makes at once."""


class ConnectError(aiohttp.ClientConnectionError):
    """There is no connection to the host."""


class NotPublicError(ConnectError):
    """The host has an address that is not public; nothing was connected to."""


class Network(Protocol):
    """Makes connections to addresses."""

    async def __call__[P: asyncio.BaseProtocol](
        self, make: Callable[[], P], address: str, port: int, *, tls: SSLContext | None, name: str
    ) -> P:
        """Connect, and have a protocol speak over the connection.

        Args:
            make: makes the protocol.
            address: an IP address.
            port: at that address.
            tls: None = without TLS.
            name: that the certificate must be for.

        Raises:
            OSError: there is no connection, or TLS failed.
        """


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of the public Internet.

    An IPv6 address that carries an IPv4 address (mapped, 6to4, NAT64) is judged by that one, as it leads there.
    """
    if isinstance(address, IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if carried is None and address in _NAT64:
            carried = IPv4Address(address.packed[-4:])
        if carried is not None:
            return is_public(carried)
        if address not in _GLOBAL_UNICAST:
            return False
    elif address in _PROTOCOLS:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, best first, by the system's resolver."""
    found = await asyncio.get_running_loop().run_in_executor(
        _LOOKUPS, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def connect[P: asyncio.BaseProtocol](
    make: Callable[[], P], address: str, port: int, *, tls: SSLContext | None, name: str
) -> P:
    """Connect over the system's sockets; see :class:`Network`."""
    loop = asyncio.get_running_loop()
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        async with asyncio.timeout(CONNECT_SECONDS):
            await loop.sock_connect(connection, (address, port))
        _, protocol = await loop.create_connection(
            make, sock=connection, ssl=tls, server_hostname=name if tls is not None else None
        )
    except BaseException:
        connection.close()
        raise
    return protocol


class PublicNetwork:
    """Connects to hosts.

    Args:
        public_only: False also connects to this machine and private networks, as the local stack needs.
        resolve: see :data:`Resolve`.
        network: makes the connection to an address.
    """

    def __init__(self, *, public_only: bool = True, resolve: Resolve = resolve, network: Network = connect) -> None:
        self._public_only = public_only
        self._resolve = resolve
        self._network = network

    async def connect[P: asyncio.BaseProtocol](
        self, make: Callable[[], P], host: str, port: int, *, tls: SSLContext | None = None
    ) -> P:
        """Connect to the first address of the host that answers.

        Args:
            make: makes the protocol that speaks over the connection.
            host: a name, or an address, which is checked like those of a name.
            port: at that host.
            tls: None = without TLS. The certificate must be for the host.

        Raises:
            NotPublicError: one of its addresses is not public.
            ConnectError: the host is unknown, or no address answers as it should.
        """
        try:
            addresses = await self._resolve(host, port)
        except (OSError, ValueError) as error:
            raise ConnectError("the host is unknown") from error
        # One address of several that leads inside is one too many: whoever owns the name chose them all.
        if self._public_only and not all(is_public(ip_address(address)) for address in addresses):
            raise NotPublicError("the host's address is not public")
        failure: Exception | None = None
        for address in addresses[:MAX_ADDRESSES]:
            try:
                return await self._network(make, address, port, tls=tls, name=host)
            except (OSError, ValueError) as error:
                failure = error
        raise ConnectError("no address of the host answers") from failure


class PublicConnector(aiohttp.BaseConnector):
    """What an aiohttp session connects by.

    aiohttp's own connector does not ask its resolver about a host that is an address; this one takes every connection
    the same way. How to make connections is all that it changes, as aiohttp's connectors for other sockets do.

    Args:
        network: makes the connections.
        tls: for URLs with https.
        keep_seconds: how long a connection is kept that nobody uses.
    """

    def __init__(self, network: PublicNetwork, tls: SSLContext, *, keep_seconds: float) -> None:
        super().__init__(keepalive_timeout=keep_seconds)
        self._network = network
        self._tls = tls
        self._transports: list[asyncio.Transport] = []

    def close(self, *, abort_ssl: bool = True) -> Awaitable[None]:
        """Close all connections at once: a stranger need neither read what was sent, nor bid farewell by TLS."""
        for transport in self._transports:
            transport.abort()
        return super().close(abort_ssl=abort_ssl)

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: object, timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        protocol = await self._network.connect(
            self._factory, str(req.url.raw_host), int(req.port or 0), tls=self._tls if req.is_ssl() else None
        )
        if protocol.transport is not None:
            self._transports.append(protocol.transport)
        return protocol


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
class WebhookResponse:
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


class Endpoint:
    """One webhook. Use as ``async with Endpoint(...)``; one post at a time, over one connection while it is good.

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

    async def post(self, body: bytes, headers: Mapping[str, str]) -> WebhookResponse:
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
            return WebhookResponse(answer.status)
        response = httpx.Response(answer.status, headers=answer.raw_headers)
        return WebhookResponse(answer.status, failure_of(response, now=datetime.fromtimestamp(self._clock(), UTC)))

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


def _failed(why: str) -> WebhookResponse:
    return WebhookResponse(None, Failure(None, why, retryable=True))
