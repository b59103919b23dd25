"""HTTP partners: scripted answers in place of aiohttp's session; and, below aiohttp, servers by address, and names."""

from __future__ import annotations

import asyncio
import datetime
import errno
import functools
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from aiohttp import AddrInfoType
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from include.clients.http import HttpClient

PUBLIC = "93.184.216.34"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


Reply = httpx.Response | Exception | Callable[[httpx.Request], Any]
"""What a partner answers: a response, an error, or a function that makes one of them of the request."""


async def response_of(reply: Reply, request: httpx.Request) -> httpx.Response:
    """The response that a reply stands for; an error is raised."""
    if callable(reply):
        reply = reply(request)
        if isinstance(reply, Awaitable):
            reply = await reply
    if isinstance(reply, Exception):
        raise reply
    return reply


class ScriptedPartner(httpx.AsyncBaseTransport):
    """Answers as ``reply_to`` says, in httpx's words, which tests read well; ``pause`` is what it waits for first."""

    in_flight = 0
    most_in_flight = 0
    pause: Callable[[], Awaitable[None]] | None = None

    def reply_to(self, request: httpx.Request) -> Reply:
        """The reply to a request, which it may note."""
        raise NotImplementedError

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.pause is not None:
                await self.pause()
            return await response_of(self.reply_to(request), request)
        finally:
            self.in_flight -= 1

    @property
    def http(self) -> HttpClient:
        """A client whose calls this partner gets."""
        return HttpClient(self.session)

    def session(self) -> aiohttp.ClientSession:
        """What such a client sends by."""
        return _ScriptedSession(self)


class _ScriptedSession:
    def __init__(self, partner: httpx.AsyncBaseTransport) -> None:
        self._partner = partner

    async def request(
        self, method: str, url: Any, *, data: Any, headers: dict[str, str] | None, **options: Any
    ) -> _ScriptedAnswer:
        assert options["allow_redirects"] is False
        body = await data.as_bytes() if isinstance(data, aiohttp.Payload) else data
        request = httpx.Request(method, str(url), content=body, headers=headers)
        with _errors_of_aiohttp():
            return _ScriptedAnswer(await self._partner.handle_async_request(request))

    async def close(self) -> None:
        """Nothing is open."""


class _ScriptedAnswer:
    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.content = self
        self._response = response

    def is_eof(self) -> bool:
        return False

    async def iter_any(self) -> AsyncIterator[bytes]:
        with _errors_of_aiohttp():
            if self._response.is_stream_consumed:
                yield self._response.content
                return
            async for piece in self._response.stream:
                yield piece

    def close(self) -> None:
        """Nothing is open."""


class _errors_of_aiohttp:  # noqa: N801 - used as a function
    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpx.TimeoutException):
            raise TimeoutError from error
        if isinstance(error, httpx.TransportError):
            raise aiohttp.ServerDisconnectedError(str(error)) from error


class Hang:
    """In a script: nothing comes any more, and the connection stays open."""


@dataclass
class FakeStream:
    """One connection, as its server sees it.

    Args:
        tls_name: that the certificate was asked for; None without TLS.
        written: what the client sent.
        sent: bytes that the client's side has taken.
        closed: by either side.
    """

    tls_name: str | None = None
    written: bytearray = field(default_factory=bytearray)
    sent: int = 0
    closed: bool = False


class _ConnectedSocket(socket.socket):
    """One end of a pair, which aiohttp connects to an address as it does any socket."""

    refusal: OSError | None = None

    def connect(self, address: object) -> None:
        if self.refusal is not None:
            raise self.refusal


class FakeNetwork:
    """Servers by address; what is not there refuses connections. ``open_socket`` leads to them.

    A reply is bytes, or pieces of them. Instead of bytes there may be an exception, which breaks the connection (an
    SSLError breaks its encryption), and :class:`Hang`; as a server's first reply, that server never takes the
    connection. Empty bytes close it.

    Args:
        servers: replies of each; the last one stays.
        pause: before each piece of a reply, in seconds.
    """

    def __init__(self, servers: dict[str, list[Any]] | None = None, *, pause: float = 0.0) -> None:
        self.servers = servers if servers is not None else {PUBLIC: [OK]}
        self.pause = pause
        self.asked: list[tuple[str, int]] = []
        self.streams: list[FakeStream] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def tls(self) -> ssl.SSLContext:
        """What a client must have to trust these servers, under whatever name."""
        return _authority()[1]

    def open_socket(self, address: AddrInfoType) -> socket.socket:
        """The end of a connection to an address, which begins when it is connected."""
        host, port = str(address[4][0]), int(address[4][1])
        self.asked.append((host, port))
        ours, theirs = socket.socketpair()
        end = _ConnectedSocket(ours.family, ours.type, ours.proto, fileno=ours.detach())
        if host not in self.servers:
            end.refusal = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
            theirs.close()
        elif isinstance(self.servers[host][0], Hang):
            # One that cannot be written to is not connected yet.
            end.setblocking(False)
            try:
                while end.send(b"x" * 65_536):
                    pass
            except BlockingIOError as error:
                end.refusal = error
            self._keep(asyncio.create_task(self._hang(theirs)))
        else:
            self._keep(asyncio.create_task(self._serve(theirs, self.servers[host], tls=port == 443)))
        return end

    async def settled(self) -> None:
        """Wait until no connection is open."""
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hang(self, theirs: socket.socket) -> None:
        with theirs:
            theirs.setblocking(False)
            while await asyncio.get_running_loop().sock_recv(theirs, 65_536):
                pass

    async def _serve(self, theirs: socket.socket, replies: list[Any], *, tls: bool) -> None:
        stream = FakeStream()
        self.streams.append(stream)
        raw = theirs.dup()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        context = None
        if tls:
            context = _authority()[0]
            context.sni_callback = lambda _, name, __: setattr(stream, "tls_name", name)
        try:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, theirs, ssl=context)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            await self._talk(stream, reader, writer, replies, raw)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            stream.closed = True
            raw.close()

    async def _talk(
        self,
        stream: FakeStream,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        replies: list[Any],
        raw: socket.socket,
    ) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                stream.written += head
                lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                stream.written += await reader.readexactly(int(lengths[0]) if lengths else 0)
                reply = replies.pop(0) if len(replies) > 1 else replies[0]
                for piece in [reply] if isinstance(reply, bytes | Exception | Hang) else reply:
                    await asyncio.sleep(self.pause)
                    if isinstance(piece, Hang):
                        await reader.read()
                    if isinstance(piece, ssl.SSLError):
                        raw.send(b"\x17\x03\x03\x00\x05abcde")
                        await reader.read()
                    if not isinstance(piece, bytes) or not piece:
                        return
                    writer.write(piece)
                    await writer.drain()
                    stream.sent += len(piece)
        finally:
            writer.transport.abort()


@functools.cache
def _authority() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS settings of a server, and of clients that trust it alone; that names fit is for the integration tests."""
    with tempfile.TemporaryDirectory() as directory:
        server = server_tls(Path(directory), "receiver.test")
        client = ssl.create_default_context(cafile=Path(directory) / "certificate.pem")
    client.check_hostname = False
    return server, client


def server_tls(directory: Path, *names: str, days: int = 1) -> ssl.SSLContext:
    """A server's TLS settings, with a certificate for these names that nobody vouches for, kept in the directory.

    Args:
        days: from now on that it is good for; negative = it has expired.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "key.pem").write_bytes(private)
    (directory / "certificate.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    return context


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
