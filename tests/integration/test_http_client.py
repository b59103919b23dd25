"""The HTTP client over real sockets: what goes out, what comes back, and what is made of a broken connection."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from include.clients.http import HttpClient, Response
from include.clients.webhooks import open_webhooks
from include.errors import NoResponseError
from local.processes.layout import LOOPBACK, choose_ports
from tests.worlds.http import server_tls

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

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[HttpClient]:
        """A client, while this server is there."""
        listening = await asyncio.start_server(self.serve, LOOPBACK, 0)
        self.url = f"http://{LOOPBACK}:{listening.sockets[0].getsockname()[1]}/batches?a=%2B"
        async with listening, HttpClient() as http:
            yield http


async def send(http: HttpClient, url: str, content: bytes = b"{}", **options: Any) -> Response:
    """Post, and read the answer to its end."""
    return await http.exchange("POST", url, body=content, headers={"Idempotency-Key": "k1"}, **options)


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 5_000_000])
async def test_request_arrives_as_it_is(size: int) -> None:
    server = Server([OK])
    content = b"x\n" * (size // 2) + b"y" * (size % 2)
    async with server.calling() as http:
        assert (await send(http, server.url, content)).body == b"ok"
    ((_, head, body),) = server.requests
    assert head.startswith("POST /batches?a=%2B HTTP/1.1\r\n")
    assert head.lower().count("\r\ncontent-length:") == head.lower().count("\r\nhost:") == 1
    assert "\r\nidempotency-key: k1\r\n" in head.lower()
    assert body == content


@pytest.mark.parametrize("status", [413, 429])
async def test_refusal_before_a_large_body_is_read_is_its_status(status: int) -> None:
    answer = b"HTTP/1.1 %d Refused\r\nRetry-After: 7\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    # Takes little and then reads no more, so that most of the body is still to be sent.
    async with await asyncio.start_server(refuse, LOOPBACK, 0, limit=1024) as server, HttpClient() as http:
        url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/"
        found = await asyncio.gather(*(send(http, url, b"x" * 8_000_000) for _ in range(24)))
    assert [(each.status, each.headers["Retry-After"]) for each in found] == [(status, "7")] * 24


async def test_calls_one_after_another_share_a_connection_and_nothing_else() -> None:
    server = Server([OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b\r\n\r\n")])
    async with server.calling() as http:
        for _ in range(3):
            await send(http, server.url)
    assert [number for number, _, _ in server.requests] == [1, 1, 1]
    assert not any("cookie" in head.lower() for _, head, _ in server.requests)


async def test_calls_at_once_have_a_connection_each() -> None:
    server = Server([OK])
    async with server.calling() as http:
        answers = await asyncio.gather(*(send(http, server.url) for _ in range(120)))
        assert all(answer.status == 200 for answer in answers)
    assert server.connections == 120


async def test_redirect_is_an_answer_and_an_encoded_body_stays_encoded() -> None:
    redirect = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    server = Server([redirect, OK.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")])
    async with server.calling() as http:
        assert (await send(http, server.url)).status == 307
        assert (await send(http, server.url)).body == b"ok"


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", b"nonsense\r\n\r\n"],
)
async def test_connection_that_breaks_is_no_response_and_the_next_call_gets_another(answer: bytes) -> None:
    server = Server([answer, OK])
    async with server.calling() as http:
        with pytest.raises(NoResponseError):
            await send(http, server.url)
        assert (await send(http, server.url)).status == 200
    assert [number for number, _, _ in server.requests] == [1, 2]


async def test_answer_that_is_not_read_to_its_end_costs_its_connection() -> None:
    server = Server([b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nab", OK])
    async with server.calling() as http:
        assert (await send(http, server.url, max_bytes=1)).body is None
        assert (await send(http, server.url)).status == 200
    assert [number for number, _, _ in server.requests] == [1, 2]


async def test_call_that_is_given_up_costs_its_connection() -> None:
    server = Server([b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", OK])
    async with server.calling() as http:
        with pytest.raises(NoResponseError, match="within 2 s"):
            await send(http, server.url, seconds=2)
        assert (await send(http, server.url)).status == 200
    assert [number for number, _, _ in server.requests] == [1, 2]


async def test_port_that_nobody_listens_on_is_a_refused_connection() -> None:
    port = choose_ports("nobody")["nobody"]
    async with Server([OK]).calling() as http:
        with pytest.raises(NoResponseError, match=f"connection to {LOOPBACK}:{port} failed: connection refused"):
            await send(http, f"http://{LOOPBACK}:{port}/")


async def test_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server([OK])
    async with server.calling() as http:
        monkeypatch.setenv("http_proxy", server.url)
        assert (await send(http, "http://calls.test/batches")).status == 200
    assert server.requests[0][1].startswith("POST http://calls.test/batches HTTP/1.1")


TLS_FAULTS = {
    "nobody vouches for it": (False, "receiver.test", 1, "certificate: self-signed certificate"),
    "it has expired": (True, "receiver.test", -1, "certificate: certificate has expired"),
    "it is for another name": (True, "other.test", 1, "certificate: Hostname mismatch"),
}


@pytest.mark.parametrize(("trusted", "name", "days", "why"), TLS_FAULTS.values(), ids=TLS_FAULTS.keys())
async def test_fault_of_a_certificate_is_named(trusted: bool, name: str, days: int, why: str, tmp_path: Path) -> None:
    context = server_tls(tmp_path, name, days=days)
    tls = ssl.create_default_context(cafile=tmp_path / "certificate.pem") if trusted else None

    async def loopback(host: str, port: int) -> list[str]:
        return [LOOPBACK]

    async with (
        await asyncio.start_server(lambda *_: None, LOOPBACK, 0, ssl=context) as server,
        open_webhooks(public_only=False, lookup=loopback, tls=tls) as http,
    ):
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NoResponseError, match=f"^connection to receiver.test:{port} failed: {why}"):
            await send(http, f"https://receiver.test:{port}/")


async def test_server_that_does_not_speak_tls_is_named() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        writer.close()

    async with await asyncio.start_server(serve, LOOPBACK, 0) as server, HttpClient() as http:
        with pytest.raises(NoResponseError, match=r"failed: TLS: wrong version number$"):
            await send(http, f"https://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/")
