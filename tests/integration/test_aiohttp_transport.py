"""The transport over real sockets: what goes out, what comes back, and what is made of a broken connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx
import pytest

from include.clients.http import AiohttpTransport
from local.processes.layout import LOOPBACK, PortRequest, choose_ports

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Server:
    """Answers with these bytes in turn, the last ones for good, and closes a connection after those without a length.

    ``requests`` has the number of the connection, the head and the body of each request.
    """

    answers: list[bytes]
    requests: list[tuple[int, str, bytes]] = field(default_factory=list)
    url: str = ""
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
                body = await reader.readexactly(int(length.partition(":")[2]))
                self.requests.append((number, head, body))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.write(answer)
                if b"Content-Length" not in answer:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


def run(server: Server, scenario: Callable[[AiohttpTransport], Awaitable[None]]) -> None:
    async def inside() -> None:
        listening = await asyncio.start_server(server.serve, LOOPBACK, 0)
        server.url = f"http://{LOOPBACK}:{listening.sockets[0].getsockname()[1]}/batches?a=%2B"
        transport = AiohttpTransport()
        try:
            await scenario(transport)
        finally:
            await transport.aclose()
            listening.close()

    asyncio.run(inside())


@dataclass(frozen=True)
class Answer:
    """What came back, the body as it came."""

    status: int
    headers: httpx.Headers
    body: bytes


async def send(transport: AiohttpTransport, url: str, content: bytes = b"{}") -> Answer:
    """Post, and read the answer to its end."""
    request = httpx.Request("POST", url, content=content, headers={"Idempotency-Key": "k1"})
    response = await transport.handle_async_request(request)
    try:
        body = b"".join([piece async for piece in response.aiter_raw()])
    finally:
        await response.aclose()
    return Answer(response.status_code, response.headers, body)


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 5_000_000])
def test_request_arrives_as_it_is(size: int) -> None:
    server = Server([OK])
    content = b"x\n" * (size // 2) + b"y" * (size % 2)

    async def scenario(transport: AiohttpTransport) -> None:
        assert (await send(transport, server.url, content)).body == b"ok"

    run(server, scenario)
    ((_, head, body),) = server.requests
    assert head.startswith("POST /batches?a=%2B HTTP/1.1\r\n")
    assert head.lower().count("\r\ncontent-length:") == head.lower().count("\r\nhost:") == 1
    assert "\r\nidempotency-key: k1\r\n" in head.lower()
    assert body == content


def test_calls_one_after_another_share_a_connection_and_nothing_else() -> None:
    server = Server([OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b\r\n\r\n")])

    async def scenario(transport: AiohttpTransport) -> None:
        for _ in range(3):
            await send(transport, server.url)

    run(server, scenario)
    assert [number for number, _, _ in server.requests] == [1, 1, 1]
    assert not any("cookie" in head.lower() for _, head, _ in server.requests)


def test_calls_at_once_have_a_connection_each() -> None:
    server = Server([OK])

    async def scenario(transport: AiohttpTransport) -> None:
        answers = await asyncio.gather(*(send(transport, server.url) for _ in range(120)))
        assert all(answer.status == 200 for answer in answers)

    run(server, scenario)
    assert server.connections == 120


def test_redirect_is_an_answer_and_an_encoded_body_stays_encoded() -> None:
    redirect = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    server = Server([redirect, OK.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")])

    async def scenario(transport: AiohttpTransport) -> None:
        first = await send(transport, server.url)
        assert (first.status, first.headers["Location"]) == (307, "/elsewhere")
        assert (await send(transport, server.url)).body == b"ok"

    run(server, scenario)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"nonsense\r\n\r\n",
    ],
)
def test_connection_that_breaks_is_a_read_error_and_the_next_call_gets_another(answer: bytes) -> None:
    server = Server([answer, OK])

    async def scenario(transport: AiohttpTransport) -> None:
        with pytest.raises(httpx.ReadError):
            await send(transport, server.url)
        assert (await send(transport, server.url)).status == 200

    run(server, scenario)
    assert [number for number, _, _ in server.requests] == [1, 2]


def test_answer_that_is_not_read_to_its_end_costs_its_connection() -> None:
    server = Server([b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nab", OK])

    async def scenario(transport: AiohttpTransport) -> None:
        response = await transport.handle_async_request(httpx.Request("POST", server.url, content=b"{}"))
        await response.aclose()
        assert (await send(transport, server.url)).status == 200

    run(server, scenario)
    assert [number for number, _, _ in server.requests] == [1, 2]


def test_call_that_is_given_up_costs_its_connection() -> None:
    server = Server([b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", OK])

    async def scenario(transport: AiohttpTransport) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await send(transport, server.url)
        assert (await send(transport, server.url)).status == 200

    run(server, scenario)
    assert [number for number, _, _ in server.requests] == [1, 2]


def test_nobody_listens() -> None:
    port = choose_ports([PortRequest("nobody", "", "")])["nobody"]

    async def scenario(transport: AiohttpTransport) -> None:
        with pytest.raises(httpx.ConnectError):
            await send(transport, f"http://{LOOPBACK}:{port}/")

    run(Server([OK]), scenario)


def test_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server([OK])

    async def scenario(transport: AiohttpTransport) -> None:
        monkeypatch.setenv("http_proxy", server.url)
        assert (await send(transport, "http://calls.test/batches")).status == 200

    run(server, scenario)
    assert server.requests[0][1].startswith("POST http://calls.test/batches HTTP/1.1")
