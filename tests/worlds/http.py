"""The network below aiohttp: scripted servers by address, and name servers that change their minds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

PUBLIC = "93.184.216.34"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Hang:
    """In a script: nothing comes any more, and the connection stays open."""


class FakeStream(asyncio.Transport):
    """One connection. Each request is answered by the next reply: pieces in turn, or an error.

    Args:
        protocol: what speaks over it.
        replies: shared by all connections of a server.
        pause: between two pieces, in seconds.
        tls_name: that the certificate was asked for; None without TLS.
    """

    def __init__(self, protocol: asyncio.BaseProtocol, replies: list[Any], pause: float, tls_name: str | None) -> None:
        super().__init__()
        self.tls_name = tls_name
        self.written = bytearray()
        self.read_bytes = 0
        self.closed = False
        self._protocol = cast("asyncio.Protocol", protocol)
        self._replies = replies
        self._pause = pause
        self._reading = asyncio.Event()
        self._reading.set()
        self._server: asyncio.Task[None] | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        if bytes(data[:5]) == b"POST ":
            reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
            pieces = iter([reply] if isinstance(reply, bytes | Exception | Hang) else reply)
            self._server = asyncio.create_task(self._serve(pieces))

    async def _serve(self, pieces: Iterator[Any]) -> None:
        for piece in pieces:
            await asyncio.sleep(self._pause)
            await self._reading.wait()
            if isinstance(piece, Hang):
                await asyncio.Event().wait()
            if self.closed or isinstance(piece, Exception) or not piece:
                self._lose(piece if isinstance(piece, Exception) else None)
                return
            self.read_bytes += len(piece)
            self._protocol.data_received(piece)

    def _lose(self, error: Exception | None) -> None:
        if not self.closed:
            self.closed = True
            self._protocol.connection_lost(error)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if self._server is not None:
                self._server.cancel()
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def is_reading(self) -> bool:
        return self._reading.is_set()

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    def get_write_buffer_size(self) -> int:
        return 0


class FakeNetwork:
    """Servers by address; what is not there refuses connections. Called as :class:`Network` is.

    Args:
        servers: replies of each, see :class:`FakeStream`; the last one stays.
        pause: between two pieces of a reply, in seconds.
    """

    def __init__(self, servers: dict[str, list[Any]] | None = None, *, pause: float = 0.0) -> None:
        self.servers = servers if servers is not None else {PUBLIC: [OK]}
        self.pause = pause
        self.asked: list[tuple[str, int]] = []
        self.streams: list[FakeStream] = []

    async def __call__[P: asyncio.BaseProtocol](
        self, make: Callable[[], P], address: str, port: int, *, tls: ssl.SSLContext | None, name: str
    ) -> P:
        self.asked.append((address, port))
        if address not in self.servers:
            raise ConnectionRefusedError("refused")
        if isinstance(self.servers[address][0], Hang):
            await asyncio.Event().wait()
        if tls is not None:
            assert tls.verify_mode is ssl.CERT_REQUIRED
            assert tls.check_hostname
        protocol = make()
        self.streams.append(FakeStream(protocol, self.servers[address], self.pause, name if tls else None))
        protocol.connection_made(self.streams[-1])
        return protocol


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
