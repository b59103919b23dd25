"""HTTP for all partners: one exchange with a deadline, a size limit, and an error that names what failed.

aiohttp does the work, because a call by it costs a third of the CPU that one by httpx's connections takes, and that
limits how fast a task can post. Only what comes back is read more leniently than aiohttp reads it: see
:class:`LenientResponseHandler`.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import socket
import ssl
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from string import printable
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit
from urllib.request import getproxies

import aiohttp
import certifi
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from include.errors import ApiRefusedError, ApiUnavailableError, AuthRefusedError, InvalidAnswerError, NoResponseError

TIMEOUT_SECONDS = 30.0
"""Deadline of one whole exchange, connection to last byte (spec: archive, Fetch)."""

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Largest body that is read; a partner that streams without end must not exhaust a worker."""

TRANSIENT_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})

IDLE_SECONDS = 5.0
"""A connection is not used again after so long: its server may be about to close it."""

_MAX_HEAD_BYTES = 256 * 1024
_MAX_HEADER_BYTES = 8000
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] +(\d{3})\b")
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_HEADERS_READ = frozenset({b"connection", b"content-encoding", b"retry-after"})
_AIOHTTP_WARNS_FROM = 1024 * 1024
_SECONDS = re.compile(r"\d+(?:\.\d*)?", re.ASCII)
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
    if any(mark < " " or mark == "\x7f" for mark in text):
        raise ValueError("is no URL: it has control characters")
    if not parts.scheme or not host:
        raise ValueError("must begin with a scheme, such as https://, and name a host")
    if "@" in parts.netloc:
        raise ValueError("must hold no user and no password")
    address = f"[{host}]" if ":" in host else host
    query = f"?{quote(parts.query, safe=_PRINTABLE)}" if parts.query else ""
    return URL(
        f"{parts.scheme}://{address}{port}{quote(parts.path, safe=_PRINTABLE) or '/'}{query}",
        encoded=True,
    )


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


@dataclass(frozen=True)
class Response:
    """What a partner answered.

    Args:
        headers: ``Content-Encoding`` and ``Retry-After``; no others are kept.
        body: as it came; None if it was not read to its end.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | None


class HttpClient:
    """Opens as many connections as there are calls at once, and keeps them for the next. Follows no redirects.

    Use as ``async with``; then by another event loop, if need be.

    Args:
        open_session: makes what aiohttp sends by; tests give a session of theirs.
        proxies: use those of the environment.
    """

    def __init__(
        self, open_session: Callable[[], aiohttp.ClientSession] | None = None, *, proxies: bool = True
    ) -> None:
        self._open_session = open_session or new_session
        self._proxies = proxies
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; the next call opens others."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def exchange(
        self,
        method: str,
        url: URL | str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        seconds: float = TIMEOUT_SECONDS,
        max_bytes: int = MAX_BODY_BYTES,
        body_seconds: float | None = None,
        what: str = "",
    ) -> Response:
        """Send once and read the response.

        Args:
            method: such as ``POST``.
            url: absolute; as text it is read by :func:`parse_url`.
            headers: beside those that HTTP itself needs.
            body: sent as it is.
            seconds: for the whole exchange, so that a slow drip ends as well.
            max_bytes: of the response's body; a longer one is given up, and None stands for it.
            body_seconds: for the response's body after its status has come. One that takes longer, or breaks off, is
                given up as well. None = the body is needed: without it there is no response.
            what: names the call in messages, such as ``DEX API``.

        Raises:
            NoResponseError: the connection failed, or the time ran out; names host and port, and quotes nothing.
            ApiRefusedError: the URL cannot be used.
        """
        prefix = f"{what}: " if what else ""
        try:
            target = parse_url(url) if isinstance(url, str) else url
        except ValueError as error:
            raise ApiRefusedError(f"{prefix}the URL {error}") from None
        if self._session is None:
            self._session = self._open_session()
        proxy = proxy_of(target) if self._proxies else None
        address = f"{target.raw_host}:{target.port}"
        try:
            async with asyncio.timeout(seconds):
                # A body in pieces loses the response of a partner that refuses it before it has read it all.
                sent = _OnePiece(body) if body is not None and len(body) > _AIOHTTP_WARNS_FROM else body
                answer = await self._session.request(
                    method, target, data=sent, headers=headers, proxy=proxy, allow_redirects=False
                )
                try:
                    read = await _read(answer, max_bytes, body_seconds)
                finally:
                    # A connection whose response was read to its end has been given back by now.
                    answer.close()
        except TimeoutError:
            raise NoResponseError(f"{prefix}no answer from {address} within {seconds:g} s") from None
        except aiohttp.InvalidURL:
            raise ApiRefusedError(f"{prefix}the URL cannot be used: its host is {target.raw_host}") from None
        # Not chained: aiohttp's errors quote what came back. ValueError: a proxy that aiohttp cannot use.
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoResponseError(f"{prefix}connection to {address} failed: {_reason(error)}") from None
        return Response(answer.status, answer.headers, read)


class _OnePiece(aiohttp.Payload):
    """A large body, without the warning that aiohttp has for it."""

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: Any) -> None:
        await writer.write(self._value)


async def _read(answer: aiohttp.ClientResponse, max_bytes: int, body_seconds: float | None) -> bytes | None:
    body = bytearray()
    try:
        async with asyncio.timeout(body_seconds) as time:
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > max_bytes:
                    return None
    except TimeoutError:
        # The status has been seen, and nothing depends on the rest; but the deadline of all is the caller's.
        if not time.expired():
            raise
        return None
    except (aiohttp.ClientError, OSError):
        if body_seconds is None:
            raise
        return None
    return bytes(body)


def _reason(error: Exception) -> str:
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


def new_session(
    connector: Callable[[], aiohttp.TCPConnector] | None = None, headers: Mapping[str, str] | None = None
) -> aiohttp.ClientSession:
    """A session that sends nothing by itself but what HTTP needs.

    Args:
        connector: makes its connections.
        headers: sent with each request. The default asks for an unencoded body, so that the bytes are the server's.
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
        # aiohttp has no public way to choose the class; tests/integration/test_http_framing.py notices a change.
        handler: type[ResponseHandler] = LenientResponseHandler
        self._factory = functools.partial(handler, loop=asyncio.get_running_loop())


class LenientResponseHandler(ResponseHandler):
    """Reads a response's head before aiohttp does, and leaves of it what aiohttp needs.

    aiohttp gives a whole response up, its status too, for many or long headers, bytes after a status without a body, a
    length that is given twice, or beside chunks. But what a status says counts: a batch that was accepted must not be
    sent again.
    """

    _head: bytearray | None = None

    def set_response_params(self, **options: Any) -> None:
        """Called by aiohttp for each request, before its response is read."""
        self._head = bytearray()
        super().set_response_params(**options)

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
    lines = re.split(rb"\r?\n", head)
    found = _STATUS_LINE.match(lines[0])
    if found is None:
        return 0, head
    status = int(found[1])
    kept, lengths, codings = [lines[0]], set[bytes](), b""
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"content-length":
            lengths.update(part.strip() for part in value.split(b","))
        elif name == b"transfer-encoding":
            codings += value.lower()
        elif name in _HEADERS_READ and len(line) <= _MAX_HEADER_BYTES:
            kept.append(line)
    if status in _BODILESS or status // 100 == 1:
        # What follows all the same belongs to nothing.
        framing = b"Connection: close" if (codings or lengths - {b"0"}) and status in _BODILESS else b""
    elif b"chunked" in codings:
        framing = b"Transfer-Encoding: chunked"
    elif len(lengths) == 1 and min(lengths).isdigit():
        framing = b"Content-Length: " + min(lengths)
    else:
        # The end of the connection is the end of the body.
        framing = b"Connection: close"
    return status, b"\r\n".join([*kept, *([framing] if framing else []), b"", b""])


def body_of(response: Response, *, what: str, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The body of a response, decoded if the server encoded it though it was not asked to.

    Args:
        response: from :meth:`HttpClient.exchange` with the same limit.
        what: names the call in messages, such as ``DEX API``.
        max_bytes: largest body, decoded.

    Raises:
        ApiRefusedError: it is larger.
        InvalidAnswerError: it is not encoded as its ``Content-Encoding`` says.
    """
    body, coding = response.body, response.headers.get("Content-Encoding", "identity").strip().lower()
    if body is not None and coding not in ("", "identity"):
        decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
        try:
            if coding not in ("gzip", "x-gzip", "deflate"):
                raise zlib.error
            body = decoder.decompress(body, max_bytes + 1)
            if not decoder.eof and len(body) <= max_bytes:
                raise zlib.error
        except zlib.error:
            raise InvalidAnswerError(f"{what} sent a body that its Content-Encoding does not fit") from None
    if body is None or len(body) > max_bytes:
        raise ApiRefusedError(f"{what} sent more than {max_bytes:,} bytes; nothing was kept")
    return body


def retry_after_seconds(value: str | None, *, now: datetime) -> float | None:
    """Seconds asked for by a ``Retry-After`` header (RFC 9110, 10.2.3): a number or an HTTP date.

    Some servers send a fraction, or several numbers where a proxy added its own: the longest is meant.

    Args:
        value: the header, or None.
        now: an aware time that an HTTP date is compared with.

    Returns:
        seconds, at least 0; None for an absent or unreadable header.
    """
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if all(_SECONDS.fullmatch(part) for part in parts):
        return max(map(float, parts))
    try:
        moment = parsedate_to_datetime(value.strip())
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


@dataclass(frozen=True)
class Failure:
    """Why one attempt failed.

    Args:
        status: of the answer; None if there was none.
        error: on a short line.
        retryable: the same call may work later.
        retry_after: seconds that the answer asked to wait.
    """

    status: int | None
    error: str
    retryable: bool
    retry_after: float | None = None


def failure_of(response: Response, *, now: datetime) -> Failure | None:
    """What a response's status says: None if the API accepted.

    Args:
        response: what was answered.
        now: an aware time that a ``Retry-After`` with a date is compared with.
    """
    status = response.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    try:
        text = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        text = str(status)
    retryable = status in TRANSIENT_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    asked = retry_after_seconds(response.headers.get("Retry-After"), now=now) if retryable else None
    return Failure(status, text, retryable, asked)


def raise_for_status(response: Response, *, what: str) -> None:
    """Turn any status but 200 into the error that says whether a retry can help.

    Args:
        response: what was answered.
        what: names the call in the message, such as ``DEX API``.

    Raises:
        ApiUnavailableError: 408, 425, 429 and 5xx, with the ``Retry-After`` it carried.
        AuthRefusedError: 401.
        ApiRefusedError: every other status.
    """
    if response.status == HTTPStatus.OK:
        return
    message = f"{what} answered {response.status}"
    failure = failure_of(response, now=datetime.now(UTC))
    if failure is not None and failure.retryable:
        raise ApiUnavailableError(message, retry_after=failure.retry_after)
    if response.status == HTTPStatus.UNAUTHORIZED:
        raise AuthRefusedError(f"{message}: it refuses a token that was just issued")
    raise ApiRefusedError(message)
