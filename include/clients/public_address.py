"""Connections to public addresses only, whatever a name resolves to (spec: events, Safe).

The host is resolved here, once for each connection. What was checked is what is connected to, so a name server that
answers otherwise the next time gains nothing. TLS and the Host header still see the name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from ssl import SSLContext
from typing import Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler

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
