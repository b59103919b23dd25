"""One HTTP exchange with a deadline, a size limit, and a typed error for every way it can fail."""

from __future__ import annotations

import asyncio
import functools
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from include.errors import ApiRefusedError, ApiUnavailableError, AuthRefusedError

TIMEOUT_SECONDS = 30.0
"""Deadline of one whole exchange, connection to last byte (spec: archive, Fetch)."""

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Largest body that is read; a partner that streams without end must not exhaust a worker."""

TRANSIENT_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The TLS settings that all clients of the process share: loading the certificates costs some 20 ms."""
    return httpx.create_ssl_context()


def retry_after_seconds(value: str | None, *, now: datetime) -> float | None:
    """Seconds asked for by a ``Retry-After`` header (RFC 9110, 10.2.3): a number or an HTTP date.

    Args:
        value: the header, or None.
        now: an aware time that an HTTP date is compared with.

    Returns:
        seconds, at least 0; None for an absent or unreadable header.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def raise_for_status(response: httpx.Response, *, what: str) -> None:
    """Turn any status but 200 into the error that says whether a retry can mend it.

    Args:
        response: its body need not be read yet.
        what: names the call in the message, such as ``DEX API``.

    Raises:
        ApiUnavailableError: 408, 425, 429 and 5xx, with the ``Retry-After`` it carried.
        AuthRefusedError: 401.
        ApiRefusedError: every other status.
    """
    status = response.status_code
    if status == HTTPStatus.OK:
        return
    message = f"{what} answered {status}"
    if status in TRANSIENT_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        asked = retry_after_seconds(response.headers.get("Retry-After"), now=datetime.now(UTC))
        raise ApiUnavailableError(message, retry_after=asked)
    if status == HTTPStatus.UNAUTHORIZED:
        raise AuthRefusedError(f"{message}: it refuses a token that was just issued")
    raise ApiRefusedError(message)


async def get_body(
    http: httpx.AsyncClient,
    url: str,
    *,
    params: dict[str, str],
    what: str,
    timeout: float = TIMEOUT_SECONDS,
    max_bytes: int = MAX_BODY_BYTES,
) -> bytes:
    """The body of ``GET url``, byte for byte, when the answer is 200.

    Asks for an unencoded body, so that the bytes are those the server wrote (a server that encodes all the same is
    decoded). Redirects are not followed.

    Args:
        http: its authentication, if any, is used.
        url: absolute URL.
        params: the query.
        what: names the call in messages.
        timeout: seconds for the whole exchange, so that a slow drip ends as well.
        max_bytes: a larger body is refused.

    Raises:
        ApiUnavailableError: time-out, connection error, 408, 425, 429, 5xx.
        AuthRefusedError: 401 after the client's authentication did what it could.
        ApiRefusedError: any other status, or a body beyond ``max_bytes``.
    """
    try:
        async with (
            asyncio.timeout(timeout),
            http.stream("GET", url, params=params, headers={"Accept-Encoding": "identity"}) as response,
        ):
            raise_for_status(response, what=what)
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > max_bytes:
                    raise ApiRefusedError(f"{what} sent more than {max_bytes:,} bytes; nothing was kept")
            return bytes(body)
    except (TimeoutError, httpx.TimeoutException) as error:
        raise ApiUnavailableError(f"{what} did not answer in full within {timeout:g} s") from error
    except httpx.TransportError as error:
        raise ApiUnavailableError(f"connection to the {what} failed: {type(error).__name__}") from error
    except httpx.DecodingError as error:
        raise ApiRefusedError(f"{what} sent a body that its Content-Encoding does not fit") from error
