"""What a status says counts, whatever surrounds it: responses as partners frame them, read by aiohttp over sockets."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime

import aiohttp
import boto3
import pytest
from aiohttp.client_proto import ResponseHandler

from include.clients.call_details import CallDetailsApi
from include.clients.connections import EndingResponseHandler, LenientResponseHandler
from include.clients.dex import DexApi
from include.clients.http import HttpClient, Response, retry_after_seconds
from include.clients.signed import SignedClient
from include.clients.tokens import ClientCredentials, Grant, Keys, TokenCache, client_credentials, key_login
from include.clients.webhooks import Endpoint, open_webhooks
from local.processes.layout import LOOPBACK

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKS = b"\r\n2\r\n{}\r\n0\r\n\r\n"

ACCEPTED = {
    "a header of 9,000 bytes": HEAD + b"X-Policy: " + b"a" * 9000 + b"\r\nContent-Length: 2\r\n\r\n{}",
    "150 headers": HEAD + b"".join(b"X-%d: a\r\n" % n for n in range(150)) + b"Content-Length: 2\r\n\r\n{}",
    "a length twice": HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a length twice in one header": HEAD + b"Content-Length: 2, 2\r\n\r\n{}",
    "a length before chunks": HEAD + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n" + CHUNKS,
    "a length after chunks": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 9\r\n" + CHUNKS,
    "a header without a colon": HEAD + b"nonsense\r\nContent-Length: 2\r\n\r\n{}",
    "a length with a blank before its colon": HEAD + b"Content-Length : 2\r\n\r\n{}",
    "a header with a blank in its name": HEAD + b"X Y: z\r\nContent-Length: 2\r\n\r\n{}",
    "a header over two lines": HEAD + b"X-Y: z\r\n z\r\nContent-Length: 2\r\n\r\n{}",
    "lines without carriage returns": HEAD.replace(b"\r", b"") + b"Content-Length: 2\n\n{}",
    "a reason that is no text, after two blanks": b"HTTP/1.1  200  \x00\xff\r\nContent-Length: 2\r\n\r\n{}",
    "another response first": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\n{}",
}
SURPLUS = {
    "bytes after the body": HEAD + b"Content-Length: 2\r\n\r\n{}{}",
    "bytes after the body of a connection that closes": HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}{}",
    "bytes after the last chunk": HEAD + b"Transfer-Encoding: chunked\r\n" + CHUNKS + b"{}",
}
BODILESS = {
    "a length and a body": b"Content-Length: 2\r\n\r\n{}",
    "a length without a body": b"Content-Length: 2\r\n\r\n",
    "the last chunk": b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks": b"Transfer-Encoding: chunked\r\n" + CHUNKS,
    "a length of none": b"Content-Length: 0\r\n\r\n",
    "nothing": b"\r\n",
}
UNREADABLE_BODY = {
    "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length that is no number": b"Content-Length: +2\r\n\r\n{}",
    "a length beyond 64 bits": b"Content-Length: 18446744073709551616\r\n\r\n{}",
    "chunks that are none": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
}


def exchange(answer: bytes, *, pieces: int = 1, body_seconds: float | None = None) -> list[Response]:
    """Send three times, one after the other; each is answered by these bytes, in so many pieces."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n{}"):
                size = -(-len(answer) // pieces)
                for start in range(0, len(answer), size):
                    writer.write(answer[start : start + size])
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> list[Response]:
        async with await asyncio.start_server(serve, LOOPBACK, 0) as server, HttpClient() as http:
            url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/"
            return [
                await http.exchange("POST", url, body=b"{}", seconds=60, body_seconds=body_seconds) for _ in range(3)
            ]

    return asyncio.run(run())


@pytest.mark.parametrize("pieces", [1, 7, 1000])
@pytest.mark.parametrize("answer", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted_answer_counts_and_its_body_is_read(answer: bytes, pieces: int) -> None:
    assert [(found.status, found.body) for found in exchange(answer, pieces=pieces)] == [(200, b"{}")] * 3


@pytest.mark.parametrize("answer", SURPLUS.values(), ids=SURPLUS.keys())
def test_bytes_after_an_accepted_answer_cost_neither_it_nor_the_next(answer: bytes) -> None:
    assert [(found.status, found.body) for found in exchange(answer)] == [(200, b"{}")] * 3


@pytest.mark.parametrize("status", [204, 205, 304])
@pytest.mark.parametrize("rest", BODILESS.values(), ids=BODILESS.keys())
def test_status_without_a_body_counts_whatever_follows(rest: bytes, status: int) -> None:
    found = exchange(b"HTTP/1.1 %d Fine\r\n" % status + rest)
    assert [(each.status, each.body) for each in found] == [(status, b"")] * 3


@pytest.mark.parametrize("rest", UNREADABLE_BODY.values(), ids=UNREADABLE_BODY.keys())
def test_status_counts_though_the_body_cannot_be_read(rest: bytes) -> None:
    assert [found.status for found in exchange(HEAD + rest, body_seconds=0.1)] == [200] * 3


@pytest.mark.parametrize("handler", [EndingResponseHandler, LenientResponseHandler])
async def test_body_that_cannot_be_read_on_ends_its_reading_at_once(handler: type[ResponseHandler]) -> None:
    reading = handler(asyncio.get_running_loop())
    body = aiohttp.StreamReader(reading, 1024, loop=asyncio.get_running_loop())
    reading._payload = body
    reading.set_exception(ValueError())
    with pytest.raises(aiohttp.ClientPayloadError):
        await asyncio.wait_for(body.read(), 20)


async def test_answers_of_aws_are_read_so() -> None:
    session = boto3.Session("key", "secret", region_name="us-east-1")
    async with SignedClient(session.client("dynamodb"), session.get_credentials) as dynamodb:
        assert isinstance(dynamodb._connect()._factory(), EndingResponseHandler)


def test_headers_that_are_needed_are_kept() -> None:
    answer = b"HTTP/1.1 429 Slow\r\nRETRY-AFTER : 7\r\ncontent-encoding: gzip\r\nX-Y: z\r\nContent-Length: 0\r\n\r\n"
    for found in exchange(answer):
        assert (found.headers["Retry-After"], found.headers["Content-Encoding"]) == ("7", "gzip")
        assert "X-Y" not in found.headers


def test_wait_that_a_proxy_asks_for_beside_the_server_counts_too() -> None:
    answer = b"HTTP/1.1 429 Slow\r\nRetry-After: 5\r\nX-Y: z\r\nretry-after: 90\r\nContent-Length: 0\r\n\r\n"
    for found in exchange(answer):
        assert retry_after_seconds(found.headers["Retry-After"], now=datetime.now(UTC)) == 90


async def post_batch(url: str) -> bool:
    async def grant() -> Grant:
        return Grant("token", 3000)

    async with CallDetailsApi(url, TokenCache(grant), attempts=1) as api:
        return (await api.post(b"{}", "key")).accepted


async def post_event(url: str) -> bool:
    async with Endpoint(url, open_webhooks(public_only=False), https_only=False) as endpoint:
        return (await endpoint.post(b"{}", {})).accepted


async def ask_for_a_token(url: str) -> bool:
    return (await TokenCache(client_credentials(ClientCredentials(url, "me", "secret", "all"))).token()).value == "x"


async def log_in(url: str) -> bool:
    return (await TokenCache(key_login(url, Keys("access", "secret"))).token()).value == "x"


async def ask_dex(url: str) -> bool:
    async with DexApi(url, ClientCredentials(url, "me", "secret", "all")) as api:
        return await api.trigger_response(1, date(2026, 3, 8)) == TOKEN


TOKEN = b'{"token":"x","access_token":"x","error":null}'
FRAMED = {
    "a header of 9,000 bytes": b"X-Policy: " + b"a" * 9000 + b"\r\nContent-Length: 45\r\n\r\n" + TOKEN,
    "150 headers": b"".join(b"X-%d: a\r\n" % n for n in range(150)) + b"Content-Length: 45\r\n\r\n" + TOKEN,
    "a length twice": b"Content-Length: 45\r\nContent-Length: 45\r\n\r\n" + TOKEN,
    "a length beside chunks": b"Content-Length: 45\r\nTransfer-Encoding: chunked\r\n\r\n2d\r\n"
    + TOKEN
    + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("framed", FRAMED.values(), ids=FRAMED.keys())
@pytest.mark.parametrize("client", [post_batch, post_event, ask_for_a_token, log_in, ask_dex])
def test_every_client_takes_an_accepted_answer_by_one_call(
    client: Callable[[str], Awaitable[bool]], framed: bytes
) -> None:
    calls = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(65_536):
            calls.append(head)
            writer.write(HEAD + framed)
        writer.close()

    async def run() -> bool:
        async with await asyncio.start_server(serve, LOOPBACK, 0) as server:
            return await client(f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}")

    assert asyncio.run(run())
    # The DEX API wants a token first.
    assert len(calls) == 1 + (client is ask_dex)
