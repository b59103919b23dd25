"""Connections to public addresses only, whatever a name resolves to (spec: events, Safe).

The host is resolved here, once for each connection. What was checked is what is connected to, so a name server that
answers otherwise the next time gains nothing. TLS and the Host header still see the name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpcore

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


class NotPublicError(httpcore.ConnectError):
    """The host has an address that is not public; nothing was connected to."""


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


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """What httpcore connects by.

    Args:
        public_only: False also connects to this machine and private networks, as the local stack needs.
        resolve: see :data:`Resolve`.
        network: makes the connection to an address.
    """

    def __init__(
        self,
        *,
        public_only: bool = True,
        resolve: Resolve = resolve,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._public_only = public_only
        self._resolve = resolve
        self._network = network or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of the host that answers.

        Raises:
            NotPublicError: one of its addresses is not public.
            httpcore.ConnectError: the host is unknown, or no address answers.
            httpcore.ConnectTimeout: the last one did not answer in time.
        """
        try:
            addresses = await self._resolve(host, port)
        except (OSError, ValueError) as error:
            raise httpcore.ConnectError("the host is unknown") from error
        # One address of several that leads inside is one too many: whoever owns the name chose them all.
        if self._public_only and not all(is_public(ip_address(address)) for address in addresses):
            raise NotPublicError("the host's address is not public")
        failure: Exception = httpcore.ConnectError("the host has no address")
        for address in addresses[:MAX_ADDRESSES]:
            try:
                return await self._network.connect_tcp(address, port, CONNECT_SECONDS, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure
