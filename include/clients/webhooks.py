"""Posts to webhooks of strangers: bounded in time and size, and to public addresses only (spec: events, Safe)."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from aiohttp import AddrInfoType, ClientSession
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from include.clients.connections import Connector, RefusedAddressError, new_session, parse_url
from include.clients.http import Failure, HttpClient, OverHttp, failure_of
from include.errors import ApiRefusedError, NoResponseError

POST_SECONDS = 10.0
"""Deadline of one whole exchange, from the name's lookup to the last byte that is read."""

MAX_ADDRESSES = 4
"""Tried of one answer of a name server."""

_MAX_ANSWER_BYTES = 1024
"""What is read of an answer's body, and thrown away, to use the connection again; of a longer one it is closed."""

_BODY_SECONDS = 1.0
"""How long that may take: the status has been seen, and nothing depends on the rest."""

_IDLE_SECONDS = 3.0
"""How long a connection is kept between two posts: less than servers keep theirs, so that none is used half closed."""

_NOT_PUBLIC = (
    # Kept for protocols (RFC 6890), and for documentation (RFC 9637); Python takes them for public in some versions.
    IPv4Network("192.0.0.0/24"),
    IPv6Network("3fff::/20"),
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_LOOKUPS = ThreadPoolExecutor(256, thread_name_prefix="lookup")
"""Lookups of their own threads: a name server that hangs must not take those that other work waits for. A lookup goes
on for up to half a minute when its post has given up after ten seconds; so there are more than twice the 96 posts that
a task makes at once by default."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host; the port is for the resolver's hints. Raises ``OSError`` if there are none."""

OpenSocket = Callable[[AddrInfoType], socket.socket]
"""Makes the socket for an address, before it is connected."""


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
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, best first, by the system's resolver."""
    found = await asyncio.get_running_loop().run_in_executor(
        _LOOKUPS, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def new_socket(address: AddrInfoType) -> socket.socket:
    """A socket of the system."""
    return socket.socket(*address[:3])


class _Resolver(AbstractResolver):
    """What aiohttp asks about names, for each connection anew."""

    def __init__(self, lookup: Resolve, check: Callable[[str], None]) -> None:
        self._lookup = lookup
        self._check = check

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        try:
            addresses = await self._lookup(host, port)
        except ValueError as error:
            # Of a name that cannot be written as DNS has it.
            raise OSError("not a name") from error
        if not addresses:
            raise OSError("no address")
        for address in addresses:
            # One that leads inside is one too many: whoever owns the name chose them all.
            self._check(address)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses[:MAX_ADDRESSES]
        ]

    async def close(self) -> None:
        """Nothing is open."""


def open_webhooks(
    *,
    public_only: bool = True,
    lookup: Resolve = resolve,
    open_socket: OpenSocket = new_socket,
    tls: ssl.SSLContext | None = None,
) -> HttpClient:
    """What posts to strangers: no proxies, redirects or cookies, and to public addresses only, whatever a name
    resolves to.

    Every connection's address is checked when its socket is made, be it from a name server or in the URL itself: what
    was checked is what is connected to, so a name server that answers otherwise the next time gains nothing. TLS and
    the Host header still see the name.

    Without ``public_only`` it also connects to this machine and private networks, as the local stack needs. ``tls``:
    whose certificates to trust, by default everybody's.
    """

    def check(address: str) -> None:
        if public_only and not is_public(ip_address(address)):
            raise RefusedAddressError("the host's address is not public")

    def guarded(address: AddrInfoType) -> socket.socket:
        check(str(address[4][0]))
        return open_socket(address)

    def connector() -> Connector:
        return Connector(
            idle_seconds=_IDLE_SECONDS,
            tls=tls,
            resolver=_Resolver(lookup, check),
            use_dns_cache=False,
            socket_factory=guarded,
        )

    session: Callable[[], ClientSession] = functools.partial(new_session, connector, {"User-Agent": "webhooks"})
    return HttpClient(session, proxies=False)


@dataclass(frozen=True)
class WebhookResponse:
    """What an endpoint said: the status of its answer, None if there was none; and why it is no acceptance, if so."""

    status: int | None
    failure: Failure | None = None

    @property
    def accepted(self) -> bool:
        """The endpoint answered 2xx in time."""
        return self.failure is None


class Endpoint(OverHttp):
    """One webhook. Use as ``async with Endpoint(...)``; one post at a time, over one connection while it is good.

    Args:
        url: as the owner gave it.
        http: see :func:`open_webhooks`; closed with this endpoint.
        https_only: False also posts to http, as the local stack needs.
        clock: seconds since the epoch, that a ``Retry-After`` with a date is compared with.
    """

    def __init__(
        self,
        url: str,
        http: HttpClient,
        *,
        https_only: bool = True,
        seconds: float = POST_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = usable_url(url, https_only=https_only)
        self._http = http
        self._seconds = seconds
        self._clock = clock

    async def post(self, body: bytes, headers: Mapping[str, str]) -> WebhookResponse:
        """Post JSON once, as it is, with headers beside those that HTTP itself needs.

        Returns what the endpoint said; its body is neither kept nor quoted.
        """
        if self._url is None:
            return _failed("the URL cannot be used")
        try:
            response = await self._http.exchange(
                "POST",
                self._url,
                headers=headers,
                body=body,
                seconds=self._seconds,
                max_bytes=_MAX_ANSWER_BYTES,
                body_seconds=_BODY_SECONDS,
                repeats=True,
            )
        except (NoResponseError, ApiRefusedError) as error:
            return _failed(str(error))
        return WebhookResponse(response.status, failure_of(response, now=datetime.fromtimestamp(self._clock(), UTC)))


def usable_url(text: str, *, https_only: bool) -> URL | None:
    """A webhook's URL, or None if it is none that may be posted to."""
    try:
        # With a user in it it is refused: the signature authenticates us, and a URL is shown where URLs are shown.
        url = parse_url(text)
    except ValueError:
        return None
    return url if url.scheme in ("https", *(() if https_only else ("http",))) and url.port else None


def _failed(why: str) -> WebhookResponse:
    return WebhookResponse(None, Failure(None, why, retryable=True))
