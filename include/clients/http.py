"""HTTP for all partners: one exchange with a deadline, a size limit, and an error that names what failed.

aiohttp does the work, because a call by it costs a third of the CPU that one by httpx's connections takes, and that
limits how fast a task can post.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Self

import aiohttp
from yarl import URL

from include.clients.connections import (
    ClosedUnansweredError,
    in_one_piece,
    new_session,
    parse_url,
    proxy_of,
    reason_of_failure,
)
from include.errors import ApiRefusedError, ApiUnavailableError, AuthRefusedError, InvalidAnswerError, NoResponseError

TIMEOUT_SECONDS = 30.0
"""Deadline of one whole exchange, connection to last byte (spec: archive, Fetch)."""

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Largest body that is read; a partner that streams without end must not exhaust a worker."""

TRANSIENT_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})

_DECODED = frozenset({"gzip", "x-gzip", "deflate"})
_UNREADABLE = frozenset({"br", "compress", "dcb", "dcz", "x-compress", "zstd"})
"""Codings of a body that nobody asked for. Any other name is none: some servers put the charset or the type there."""

_GZIP_MAGIC = b"\x1f\x8b"
_MOST_MEMBERS = 1000
_MOST_CODINGS = 5
_SECONDS = re.compile(r"\d+(?:\.\d*)?", re.ASCII)


@dataclass(frozen=True)
class Response:
    """What a partner answered: the headers ``Content-Encoding`` and ``Retry-After`` only; the body as it came, or None
    if it was not read to its end.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | None


class HttpClient:
    """Opens as many connections as there are calls at once, and keeps them for the next. Follows no redirects.

    Use as ``async with``; then by another event loop, if need be. Tests give a session of theirs; ``proxies`` are those
    of the environment.
    """

    def __init__(
        self, open_session: Callable[[], aiohttp.ClientSession] | None = None, *, proxies: bool = True
    ) -> None:
        self._open_session = open_session or new_session
        self._proxies = proxies
        self._session: aiohttp.ClientSession | None = None
        self._routes: dict[tuple[str, str], str | None] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
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
        repeats: bool = False,
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
            body_seconds: for the response's body after its status has come. One that takes longer, also beyond the
                deadline of all, or breaks off, is given up as well. None = the body is needed: without it there is no
                response.
            repeats: send at once again, by another connection, if one that had served before was closed without any
                answer. The server may get the request twice.
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
        address = f"{target.host_subcomponent}:{target.port}"
        route = (target.scheme, address)
        # Looked up once: reading the environment costs as much as a tenth of a call.
        if route not in self._routes:
            self._routes[route] = proxy_of(target) if self._proxies else None
        answer, read = None, None
        try:
            async with asyncio.timeout(seconds):
                try:
                    answer = await self._send(method, target, self._routes[route], headers, body)
                except ClosedUnansweredError:
                    if not repeats:
                        raise
                    answer = await self._send(method, target, self._routes[route], headers, body)
                try:
                    read = await _read(answer, max_bytes, body_seconds)
                finally:
                    # A connection whose response was read to its end has been given back by now.
                    answer.close()
        except TimeoutError:
            if answer is None or body_seconds is None:
                raise NoResponseError(f"{prefix}no answer from {address} within {seconds:g} s") from None
        except aiohttp.InvalidURL:
            raise ApiRefusedError(f"{prefix}the URL cannot be used: its host is {target.raw_host}") from None
        # Not chained: aiohttp's errors quote what came back. ValueError: a proxy that aiohttp cannot use.
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoResponseError(f"{prefix}connection to {address} failed: {reason_of_failure(error)}") from None
        return Response(answer.status, answer.headers, read)

    async def _send(
        self, method: str, target: URL, proxy: str | None, headers: Mapping[str, str] | None, body: bytes | None
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = self._open_session()
        sent = None if body is None else in_one_piece(body)
        return await self._session.request(
            method, target, data=sent, headers=headers, proxy=proxy, allow_redirects=False
        )


class OverHttp:
    """Use as ``async with``: connections live for the block."""

    _http: HttpClient

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; the next call opens others."""
        await self._http.close()


async def _read(answer: aiohttp.ClientResponse, max_bytes: int, body_seconds: float | None) -> bytes | None:
    if answer.content.is_eof():
        # Mostly it came with the head.
        found = answer.content.read_nowait()
        return found if len(found) <= max_bytes else None
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


def body_of(response: Response, *, what: str, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The body of a response, decoded if the server encoded it though it was not asked to.

    The arguments are those of :meth:`HttpClient.exchange`; the limit counts for the decoded body as well.

    Raises:
        ApiRefusedError: it is larger.
        InvalidAnswerError: it is not encoded as its ``Content-Encoding`` says.
    """
    body, codings = response.body, response.headers.get("Content-Encoding", "").lower().split(",")
    # The last one was applied last.
    for coding in reversed([each.strip() for each in codings]):
        if body is None or len(body) > max_bytes:
            break
        try:
            if coding in _UNREADABLE or len(codings) > _MOST_CODINGS:
                raise zlib.error
            body = _decoded(body, max_bytes) if coding in _DECODED else body
        except zlib.error:
            raise InvalidAnswerError(f"{what} sent a body that its Content-Encoding does not fit") from None
    if body is None or len(body) > max_bytes:
        raise ApiRefusedError(f"{what} sent more than {max_bytes:,} bytes; nothing was kept")
    return body


def _decoded(body: bytes, max_bytes: int) -> bytes:
    """A compressed body, up to a byte more than ``max_bytes``; raises ``zlib.error`` if it is damaged or cut off."""
    # What some servers call deflate is without the header that it should have (RFC 9110, 8.4.1.2).
    raw = bool(body) and body[:2] != _GZIP_MAGIC and (body[0] & 0x0F != zlib.DEFLATED or body[0] >> 4 > 7)
    found, left = b"", body
    # Members of gzip that follow one another are one text.
    for _ in range(_MOST_MEMBERS):
        decoder = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS | 32)
        found += decoder.decompress(left, max_bytes + 1 - len(found))
        left = decoder.unused_data
        if len(found) > max_bytes or (decoder.eof and left[:2] != _GZIP_MAGIC):
            return found
        if not decoder.eof:
            break
    raise zlib.error


def retry_after_seconds(value: str | None, *, now: datetime) -> float | None:
    """Seconds asked for by a ``Retry-After`` header (RFC 9110, 10.2.3): a number or an HTTP date.

    Some servers send a fraction, or several numbers where a proxy added its own: the longest is meant. They are from
    ``now`` on, an aware time, and at least 0; None for an absent or unreadable header.
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
    """Why one attempt failed: the answer's status, if there was one, why, and whether the same call may work later."""

    status: int | None
    error: str
    retryable: bool
    retry_after: float | None = None


def failure_of(response: Response, *, now: datetime) -> Failure | None:
    """What a response's status says, at an aware time: None if the API accepted."""
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

    Raises:
        ApiUnavailableError: 408, 425, 429 and 5xx, with the ``Retry-After`` it carried.
        AuthRefusedError: 401.
        ApiRefusedError: every other status.
    """
    if response.status == HTTPStatus.OK:
        return
    message = f"{what} answered {response.status}"
    if HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST:
        message += ": it redirects, which is not followed; check the address in the connection"
    failure = failure_of(response, now=datetime.now(UTC))
    if failure is not None and failure.retryable:
        raise ApiUnavailableError(message, retry_after=failure.retry_after)
    if response.status == HTTPStatus.UNAUTHORIZED:
        raise AuthRefusedError(f"{message}: it refuses a token that was just issued")
    raise ApiRefusedError(message)
