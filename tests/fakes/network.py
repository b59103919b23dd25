"""The network below httpcore: scripted servers by address, and name servers that change their minds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpcore

PUBLIC = "93.184.216.34"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Hang:
    """In a script: nothing comes any more, and the connection stays open."""


@dataclass
class FakeStream(httpcore.AsyncNetworkStream):
    """One connection. Each request is answered by the next reply: pieces in turn, or an error.

    Args:
        replies: shared by all connections of a server.
        pause: between two pieces, in seconds.
    """

    replies: list[Any]
    pause: float = 0.0
    tls_name: str | None = None
    written: bytearray = field(default_factory=bytearray)
    read_bytes: int = 0
    closed: bool = False
    _pieces: Any = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._pieces is None:
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            self._pieces = iter([reply] if isinstance(reply, bytes | Exception | Hang) else reply)
        await asyncio.sleep(self.pause)
        piece = next(self._pieces, b"")
        if isinstance(piece, Exception):
            raise piece
        if isinstance(piece, Hang):
            await asyncio.Event().wait()
        assert len(piece) <= max_bytes
        self.read_bytes += len(piece)
        return bytes(piece)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer.startswith(b"POST "):
            self._pieces = None
        self.written += buffer

    async def aclose(self) -> None:
        self.closed = True

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        assert ssl_context.verify_mode is ssl.CERT_REQUIRED
        assert ssl_context.check_hostname
        self.tls_name = server_hostname
        return self

    def get_extra_info(self, info: str) -> Any:
        return False if info == "is_readable" else None


class FakeNetwork(httpcore.AsyncNetworkBackend):
    """Servers by address; what is not there refuses connections.

    Args:
        servers: replies of each, see :class:`FakeStream`; the last one stays.
        pause: between two pieces of a reply, in seconds.
    """

    def __init__(self, servers: dict[str, list[Any]] | None = None, *, pause: float = 0.0) -> None:
        self.servers = servers if servers is not None else {PUBLIC: [OK]}
        self.pause = pause
        self.asked: list[tuple[str, int]] = []
        self.streams: list[FakeStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.asked.append((host, port))
        if host not in self.servers:
            raise httpcore.ConnectError("refused")
        if isinstance(self.servers[host][0], Hang):
            await asyncio.Event().wait()
        self.streams.append(FakeStream(self.servers[host], self.pause))
        return self.streams[-1]


@dataclass
class FakeNames:
    """A name server: the answers of each name in turn, the last one stays."""

    answers: dict[str, list[list[str]]]
    asked: list[str] = field(default_factory=list)
    wait: Callable[[], Any] | None = None

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if self.wait is not None:
            await self.wait()
        if host not in self.answers:
            raise OSError("unknown")
        found = self.answers[host]
        return found.pop(0) if len(found) > 1 else found[0]
