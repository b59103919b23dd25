import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.clients.http import Response, body_of, raise_for_status, retry_after_seconds
from include.errors import (
    ApiRefusedError,
    ApiUnavailableError,
    AuthRefusedError,
    InvalidAnswerError,
    NoResponseError,
    PipelineError,
)
from tests.worlds.http import ScriptedPartner
from tests.worlds.pipeline import PLANTED as SECRET
from tests.worlds.pipeline import leaks

NOW = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)


class Stream(httpx.AsyncByteStream):
    """A body in chunks, with an optional wait before each."""

    def __init__(self, chunks: list[bytes], wait: float = 0) -> None:
        self._chunks = chunks
        self._wait = wait
        self.given = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            await asyncio.sleep(self._wait)
            self.given += 1
            yield chunk


class Partner(ScriptedPartner):
    """Gives one reply."""

    def __init__(self, reply: httpx.Response | Exception) -> None:
        self.reply = reply
        self.requests: list[httpx.Request] = []

    def reply_to(self, request: httpx.Request) -> httpx.Response | Exception:
        self.requests.append(request)
        return self.reply


def fetch(
    reply: httpx.Response | Exception, *, seconds: float = 5.0, max_bytes: int = 1000, host: str = "dex.test"
) -> bytes:
    """Get a body, of 200 only."""

    async def call() -> bytes:
        async with Partner(reply).http as http:
            url = f"https://{host}/trigger?clientId=7"
            response = await http.exchange("GET", url, seconds=seconds, max_bytes=max_bytes, what="DEX API")
        raise_for_status(response, what="DEX API")
        return body_of(response, what="DEX API", max_bytes=max_bytes)

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("status", "expected"),
    [(status, ApiUnavailableError) for status in (408, 425, 429, 500, 501, 502, 503, 504, 507, 529, 599)]
    + [(401, AuthRefusedError)]
    + [(status, ApiRefusedError) for status in (201, 202, 203, 204, 206, 301, 302, 304, 307, 308)]
    + [(status, ApiRefusedError) for status in (400, 403, 404, 405, 409, 410, 418, 422, 451)],
)
def test_status_decides_the_error(status: int, expected: type[PipelineError]) -> None:
    headers = {"Location": "https://elsewhere.test/", "X-Planted": quote(SECRET)}
    with pytest.raises(PipelineError) as caught:
        fetch(httpx.Response(status, headers=headers, text=f"body with {SECRET}"))
    assert type(caught.value) is expected
    assert str(status) in str(caught.value)
    assert "DEX API" in str(caught.value)
    assert leaks(f"{caught.value!s}{caught.value!r}", SECRET) == []


def test_redirect_is_not_followed() -> None:
    with pytest.raises(ApiRefusedError, match="302: it redirects, which is not followed; check the address"):
        fetch(httpx.Response(302, headers={"Location": "https://elsewhere.test/"}))


def test_body_comes_byte_for_byte() -> None:
    body = b'\xef\xbb\xbf {"a":\r\n1}\x00\xff'
    assert fetch(httpx.Response(200, content=body)) == body


def test_encoded_body_of_a_stubborn_server_is_decoded() -> None:
    packed = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Stream([gzip.compress(b"[1, 2]")]))
    assert fetch(packed) == b"[1, 2]"


@pytest.mark.parametrize(
    "coding", ["UTF-8", "none", "identity", "", "ISO-8859-1", "8bit", "application/json", ", utf-8"]
)
def test_body_whose_encoding_is_none_is_as_it_came(coding: str) -> None:
    assert fetch(httpx.Response(200, headers={"Content-Encoding": coding}, content=b"[1, 2]")) == b"[1, 2]"


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(b"[1,", mtime=0) + gzip.compress(b" 2]", mtime=0)),
        ("gzip", gzip.compress(b"", mtime=0) + gzip.compress(b"[1, 2]", mtime=0)),
        ("deflate", zlib.compress(b"[1, 2]")),
        ("deflate", zlib.compress(b"[1, 2]", wbits=-15)),
        ("deflate", zlib.compress(b"[1, 2]", level=0, wbits=-15)),
        ("deflate", zlib.compress(b"[1, 2]", wbits=9)),
        ("gzip, identity", gzip.compress(b"[1, 2]", mtime=0)),
        ("utf-8, X-GZIP", gzip.compress(b"[1, 2]", mtime=0)),
        ("gzip, deflate", zlib.compress(gzip.compress(b"[1, 2]", mtime=0))),
    ],
)
def test_body_in_members_or_without_a_header_is_decoded_whole(coding: str, packed: bytes) -> None:
    assert fetch(httpx.Response(200, headers={"Content-Encoding": coding}, stream=Stream([packed]))) == b"[1, 2]"


def test_body_of_endless_empty_members_is_refused() -> None:
    packed = Stream([gzip.compress(b"") * 5000])
    with pytest.raises(InvalidAnswerError, match="Content-Encoding"):
        fetch(httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=packed), max_bytes=1_000_000)


@pytest.mark.parametrize("body", [SECRET.encode(), gzip.compress(SECRET.encode(), mtime=0)[:-9]])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd, utf-8", "gzip" + 5 * ", gzip"])
def test_body_that_is_not_encoded_as_it_says_is_refused(coding: str, body: bytes) -> None:
    with pytest.raises(InvalidAnswerError, match="Content-Encoding") as caught:
        fetch(httpx.Response(200, headers={"Content-Encoding": coding}, stream=Stream([body])))
    assert caught.value.__cause__ is None


def test_body_that_grows_beyond_the_limit_when_it_is_decoded_is_cut_off() -> None:
    packed = Stream([gzip.compress(b"x" * 1_000_000)])
    with pytest.raises(ApiRefusedError, match="more than 2,000 bytes"):
        fetch(httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=packed), max_bytes=2000)


def test_body_of_the_largest_size_is_read() -> None:
    assert fetch(httpx.Response(200, stream=Stream([b"x" * 500] * 2))) == b"x" * 1000


def test_endless_body_is_cut_off() -> None:
    stream = Stream([b"x" * 400] * 1000)
    with pytest.raises(ApiRefusedError, match="more than 1,000 bytes"):
        fetch(httpx.Response(200, stream=stream))
    assert stream.given == 3


def test_slow_drip_ends_at_the_deadline() -> None:
    with pytest.raises(ApiUnavailableError, match=r"DEX API: no answer from dex\.test:443 within 0\.1 s"):
        fetch(httpx.Response(200, stream=Stream([b"x"] * 10_000, wait=0.02)), seconds=0.1)


def test_status_that_has_come_counts_though_the_deadline_of_all_comes_in_mid_body() -> None:
    dripping = httpx.Response(200, stream=Stream([b"a"] * 1000, wait=0.1))

    async def call() -> Response:
        async with Partner(dripping).http as http:
            return await http.exchange("POST", "https://receiver.test/", body=b"{}", seconds=0.3, body_seconds=60)

    found = asyncio.run(call())
    assert (found.status, found.body) == (200, None)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (httpx.ReadTimeout(SECRET), "no answer from dex.test:443 within 5 s"),
        (httpx.ReadError(SECRET), "connection to dex.test:443 failed: closed before the answer was complete"),
    ],
)
def test_lost_connections_and_timeouts_are_transient(error: Exception, says: str) -> None:
    with pytest.raises(NoResponseError) as caught:
        fetch(error)
    assert str(caught.value) == f"DEX API: {says}"
    assert caught.value.__cause__ is None, "it may quote what came back"


def test_address_of_six_is_distinguished_from_its_port() -> None:
    with pytest.raises(NoResponseError, match=r"no answer from \[2001:db8::1\]:443 within"):
        fetch(httpx.ReadTimeout(""), host="[2001:db8::1]")


def test_retry_after_travels_with_the_error() -> None:
    with pytest.raises(ApiUnavailableError) as caught:
        fetch(httpx.Response(429, headers={"Retry-After": "17"}))
    assert caught.value.retry_after == 17.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("Sun, 08 Mar 2026 12:01:30 GMT", 90.0),
        ("Sun, 08 Mar 2026 11:00:00 GMT", 0.0),
        ("Sunday, 08-Mar-26 12:01:30 GMT", 90.0),
        ("Sun Mar  8 12:01:30 2026", 90.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("30.0", 30.0),
        ("0.493", 0.493),
        ("120, 60", 120.0),
        ("5,10.5", 10.5),
        ("1e3", None),
        ("5, soon", None),
        (",", None),
        ("٣", None),
        ("Sun, 99 Mar 2026 12:01:30 GMT", None),
        ("Sun, 08 Mar 99999999999999999999 12:01:30 GMT", None),
        ("Sun, 08 Mar 2026 12:01:30 +99999999999999", None),
    ],
)
def test_retry_after_is_seconds_with_a_fraction_or_in_a_list_or_a_date_or_nothing(
    value: str | None, seconds: float | None
) -> None:
    assert retry_after_seconds(value, now=NOW) == seconds


HEADERS = st.one_of(
    st.text(),
    st.from_regex(r"\d{1,400}", fullmatch=True),
    st.from_regex(r"(Mon|Sun), \d{1,2} (Jan|Mar|Dec) \d{1,20} \d{1,2}:\d{2}:\d{2} (GMT|[+-]\d{4,20}|)", fullmatch=True),
    st.datetimes(timezones=st.just(UTC)).map(format_datetime),
)


@given(HEADERS)
def test_retry_after_never_raises_and_is_never_negative(value: str) -> None:
    seconds = retry_after_seconds(value, now=NOW)
    assert seconds is None or seconds >= 0


@given(st.integers(0, 10**9))
def test_retry_after_number_means_that_many_seconds(seconds: int) -> None:
    assert retry_after_seconds(str(seconds), now=NOW) == seconds


@given(st.integers(0, 10**8))
def test_retry_after_date_means_the_time_until_then(seconds: int) -> None:
    header = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_seconds(header, now=NOW) == seconds
