"""How connections to partners are made and read: TLS, proxies, URLs as they are written, responses as they come."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from string import printable
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies

import aiohttp
import certifi
from aiohttp.client_proto import ResponseHandler
from yarl import URL

IDLE_SECONDS = 5.0
"""A connection is not used again after so long: its server may be about to close it."""

_AIOHTTP_WARNS_FROM = 1024 * 1024
_MAX_HEAD_BYTES = 256 * 1024
_MAX_HEADER_BYTES = 8000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] +(\d{3})\b")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED})
_HEADERS_READ = frozenset({b"connection", b"content-encoding"})
_PRINTABLE = "".join(mark for mark in printable if "!" <= mark <= "~")


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The TLS settings that all clients of the process share: loading the certificates costs some 20 ms."""
    own = os.environ.get("SSL_CERT_FILE")
    return ssl.create_default_context(cafile=own or certifi.where(), capath=os.environ.get("SSL_CERT_DIR"))


def parse_url(text: str) -> URL:
    """An absolute URL whose path and query are sent as they stand, but for what is not ASCII.

    Raises:
        ValueError: it is no such URL, or names a user; the message, such as ``is no URL``, quotes nothing.
    """
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        host = host if host.isascii() else host.encode("idna").decode()
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        # Its text quotes what cannot be read.
        raise ValueError("is no URL") from None
    if _CONTROL.search(text):
        raise ValueError("is no URL: it has control characters")
    if not parts.scheme or not host:
        raise ValueError("must begin with a scheme, such as https://, and name a host")
    if "@" in parts.netloc:
        raise ValueError("must hold no user and no password")
    address = f"[{host}]" if ":" in host else host
    query = f"?{quote(parts.query, safe=_PRINTABLE)}" if parts.query else ""
    return URL(f"{parts.scheme}://{address}{port}{quote(parts.path, safe=_PRINTABLE) or '/'}{query}", encoded=True)


def proxy_of(url: URL) -> str | None:
    """The proxy that the environment names for a URL (``https_proxy``, ``no_proxy`` ...), if any.

    An entry of ``no_proxy`` is ``*``, a name (which also means the names below it), an address, or a network; names
    and addresses may have a port.
    """
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or any(_is_meant(entry.strip().lower(), url) for entry in proxies.get("no", "").split(",")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_meant(entry: str, url: URL) -> bool:
    host = str(url.raw_host)
    if entry in ("", "*"):
        return bool(entry)
    name, _, port = entry.rpartition(":") if entry.count(":") == 1 or "]:" in entry else (entry, "", "")
    if port and port != str(url.port):
        return False
    name = name.strip("[]")
    try:
        return ip_address(host) in ip_network(name, strict=False)
    except ValueError:
        name = name.removeprefix("*").removeprefix(".")
        return host == name or host.endswith(f".{name}")


def in_one_piece(body: bytes) -> OnePiece | bytes:
    """A body for aiohttp that is sent whole: in pieces, the response of who refuses before all has come gets lost."""
    return OnePiece(body) if len(body) > _AIOHTTP_WARNS_FROM else body


class OnePiece(aiohttp.Payload):
    """A large body, without the warning that aiohttp has for it."""

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """As text; aiohttp asks for it to show a body."""
        return str(self._value, encoding, errors)

    async def write(self, writer: Any) -> None:
        """Write all at once."""
        await writer.write(self._value)


def reason_of_failure(error: Exception) -> str:
    """Why there was no response, without a word of what the other side sent."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return reason_of(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error, aiohttp.ClientConnectorDNSError) and type(error.os_error) is not RefusedAddressError:
            return "name not known"
        at_proxy = "the proxy: " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
        return at_proxy + reason_of(error.os_error)
    if isinstance(error, aiohttp.ClientResponseError):
        return "what came back is not HTTP"
    if isinstance(error, ssl.SSLError):
        return "TLS: broke off"
    if isinstance(error, aiohttp.ClientError | OSError):
        return "closed before the answer was complete"
    return "the environment names a proxy that is none for HTTP"


def reason_of(error: Exception) -> str:
    """Why a connection could not be made or broke, in the system's words, which quote nothing."""
    if isinstance(error, RefusedAddressError):
        return str(error)
    if isinstance(error, ssl.CertificateError):
        return f"certificate: {getattr(error, 'verify_message', 'it is not for this host')}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}"
    if isinstance(error, socket.gaierror):
        return "name not known"
    if isinstance(error, TimeoutError):
        return "time-out"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return "no address answers" if type(error) is OSError else type(error).__name__


class RefusedAddressError(OSError):
    """A host has an address that may not be connected to."""


class ClosedUnansweredError(aiohttp.ServerDisconnectedError):
    """A connection that had served before was closed before anything of a response came: some servers close it after
    each response and do not say so.
    """


def new_session(
    connector: Callable[[], aiohttp.TCPConnector] | None = None, headers: Mapping[str, str] | None = None
) -> aiohttp.ClientSession:
    """A session that sends nothing by itself but what HTTP needs.

    The default headers ask for an unencoded body, so that the bytes are the server's.
    """
    return aiohttp.ClientSession(
        connector=connector() if connector else Connector(),
        headers=headers or {"User-Agent": "pipelines", "Accept": "*/*", "Accept-Encoding": "identity"},
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type"),
        # What an answer sets must not be sent along with another call.
        cookie_jar=aiohttp.DummyCookieJar(),
        # Each exchange has one deadline, which is not aiohttp's.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
    )


class Connector(aiohttp.TCPConnector):
    """Connections that read responses leniently; takes what aiohttp's own connector takes."""

    def __init__(
        self, *, idle_seconds: float = IDLE_SECONDS, tls: ssl.SSLContext | None = None, **options: Any
    ) -> None:
        super().__init__(limit=0, ssl=tls or tls_context(), keepalive_timeout=idle_seconds, **options)
        read_by(self, LenientResponseHandler)


def read_by(connector: aiohttp.TCPConnector, handler: type[ResponseHandler]) -> None:
    """Let a connector read responses by a handler; to be called in the event loop."""
    # aiohttp has no public way to choose the class; tests/integration/test_http_framing.py notices a change.
    connector._factory = functools.partial(handler, loop=asyncio.get_running_loop())


class EndingResponseHandler(ResponseHandler):
    """Ends the reading of a body that cannot be read on: aiohttp may wait beyond its time-outs."""

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Called by aiohttp when what has come cannot be read."""
        super().set_exception(exc, *cause)
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError())


class LenientResponseHandler(EndingResponseHandler):
    """Reads a response's head before aiohttp does, and leaves of it what aiohttp needs.

    aiohttp gives a whole response up, its status too, for many or long headers, bytes after a status without a body, a
    length that is given twice, or beside chunks. But what a status says counts: a batch that was accepted must not be
    sent again.
    """

    _head: bytearray | None = None
    _requests = 0

    def set_response_params(self, **options: Any) -> None:
        """Called by aiohttp for each request, before its response is read."""
        self._head = bytearray()
        self._requests += 1
        super().set_response_params(**options)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Called by aiohttp also when the connection is lost."""
        unanswered = self._requests > 1 and self._head is not None and not self._head
        if unanswered and isinstance(exc, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
            exc = ClosedUnansweredError()
        super().set_exception(exc, *cause)

    def data_received(self, data: bytes) -> None:
        """Called with what has come."""
        while self._head is not None and data:
            self._head += data
            end = _HEAD_END.search(self._head)
            if end is None and len(self._head) <= _MAX_HEAD_BYTES:
                return
            head, data = (self._head, b"") if end is None else (self._head[: end.end()], bytes(self._head[end.end() :]))
            status, normal = _normal_head(bytes(head))
            # An interim response (1xx) is followed by another head.
            self._head = bytearray() if status // 100 == 1 else None
            # Apart from the body, which may be wrong and must not take the head with it.
            super().data_received(normal)
            if end is None and self.transport is not None:
                # A head without end: its status counts, and there is nothing else to be had.
                self.transport.abort()
        if data:
            super().data_received(data)

    def close(self) -> None:
        """Close at once: nothing that is still to be sent matters, and a stranger may be slow to read it."""
        self.abort()


def _normal_head(head: bytes) -> tuple[int, bytes]:
    """A response's status, and its head with the headers that are read and an unequivocal length."""
    lines = [line.rstrip(b"\r") for line in head.split(b"\n")]
    found = _STATUS_LINE.match(lines[0])
    if found is None:
        return 0, head
    status = int(found[1])
    # Without its reason, which may be anything.
    kept, lengths, codings, waits = [b"%b %b" % (lines[0][:8], found[1])], set[bytes](), b"", list[bytes]()
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        # A blank before the colon is not allowed, and found.
        name = name.strip().lower()
        if name == b"content-length":
            lengths.update(part.strip() for part in value.split(b","))
        elif name == b"transfer-encoding":
            codings += value.lower()
        elif name == b"retry-after":
            waits.append(value)
        elif name in _HEADERS_READ and len(line) <= _MAX_HEADER_BYTES:
            kept.append(name + b":" + value)
    if status in _BODILESS or status // 100 == 1:
        # What follows all the same belongs to nothing.
        framing = b"Connection: close" if (codings or lengths - {b"0"}) and status in _BODILESS else b""
        if status == HTTPStatus.RESET_CONTENT:
            # aiohttp does not know that it has none, and would wait for the end of the connection.
            kept.append(b"Content-Length: 0")
    elif b"chunked" in codings:
        framing = b"Transfer-Encoding: chunked"
    elif len(lengths) == 1 and _LENGTH.fullmatch(min(lengths)):
        framing = b"Content-Length: " + min(lengths)
    else:
        # The end of the connection is the end of the body.
        framing = b"Connection: close"
    if waits:
        # A proxy adds one of its own beside the server's, which is the same as a list (RFC 9110, 5.3).
        kept.append((b"retry-after:" + b",".join(waits))[:_MAX_HEADER_BYTES])
    return status, b"\r\n".join([*kept, *([framing] if framing else []), b"", b""])
