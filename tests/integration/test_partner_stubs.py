"""The partner stubs under uvicorn, over real sockets: cut connections and other things ASGI does not show."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from local.processes.layout import LOOPBACK, choose_ports

ROOT = Path(__file__).parents[2]
START_SECONDS = 120
CREDENTIALS = {"DEX_CLIENT_ID": "me", "DEX_CLIENT_SECRET": "the-secret"}
TRIGGER = "/data-exchange/trigger"
QUESTION = {"clientId": "1014", "triggerDate": "2025-03-09"}


def until[T](found: Callable[[], T | None], what: str) -> T:
    """Ask until there is an answer; fails after START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        answer = found()
        if answer is not None:
            return answer
        time.sleep(0.02)
    pytest.fail(f"{what}: not within {START_SECONDS} s")


def command(port: int, http: str = "auto") -> list[str]:
    """Return the command of local.partners.app's docstring, with the HTTP implementation to use."""
    options = ["--log-level", "warning", "--no-access-log", "--http", http]
    options += ["--timeout-keep-alive", "75", "--timeout-graceful-shutdown", "2"]
    arguments = ["local.partners.app:app", "--host", LOOPBACK, "--port", str(port), *options]
    return [sys.executable, "-m", "uvicorn", *arguments]


def free_port() -> int:
    """Return a port that nobody listens on."""
    return choose_ports("partners")["partners"]


@dataclass(frozen=True)
class Stubs:
    """A running server, a client that is logged in to it, and the server's log."""

    client: httpx.Client
    process: psutil.Process
    log: Path

    def rules(self, *rules: dict[str, Any], **general: Any) -> None:
        """Put rules in force and forget the journal."""
        response = self.client.put("/control", json={"rules": rules, **general})
        assert response.status_code == 200, response.text
        self.client.delete("/journal")

    def calls(self) -> list[dict[str, Any]]:
        """Return the journal's calls to the trigger endpoint."""
        return self.client.get("/journal", params={"path": TRIGGER}).json()["calls"]

    def ask(self, **options: Any) -> httpx.Response:
        return self.client.get(TRIGGER, params=QUESTION, **options)


@contextmanager
def serving(log: Path, http: str) -> Iterator[Stubs]:
    """Run the stubs for the block; they must not have logged anything at its end."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(port, http), cwd=ROOT, env=os.environ | CREDENTIALS, stdout=output, stderr=output
        )
    try:
        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=20, trust_env=False) as client:

            def healthy() -> bool | None:
                assert process.poll() is None, log.read_text()
                try:
                    return client.get("/health").is_success
                except httpx.TransportError:
                    return None

            until(healthy, "the stubs are healthy")
            form = {"grant_type": "client_credentials", "client_id": "me", "client_secret": "the-secret"}
            token = client.post("/oauth2/token", data=form).json()["access_token"]
            client.headers["authorization"] = f"Bearer {token}"
            yield Stubs(client, psutil.Process(process.pid), log)
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)
    assert log.read_text() == ""


@pytest.fixture(scope="module", params=["httptools", "h11"])
def stubs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stubs]:
    """The stubs under each of uvicorn's HTTP implementations: what is installed decides which one runs."""
    with serving(tmp_path_factory.mktemp("stubs") / "stubs.log", request.param) as running:
        yield running


def test_a_cut_before_the_answer_is_a_closed_connection(stubs: Stubs) -> None:
    stubs.rules({"path": TRIGGER, "cut": "before", "count": 2})
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError, match="disconnected without sending a response"):
            stubs.ask()
    assert stubs.ask().status_code == 200
    assert [(call["status"], call["end"]) for call in stubs.calls()] == [
        (None, "cut before"),
        (None, "cut before"),
        (200, "answered"),
    ]


def test_a_cut_in_the_middle_leaves_half_of_the_body(stubs: Stubs) -> None:
    stubs.rules()
    whole = stubs.ask().content
    stubs.rules({"path": TRIGGER, "cut": "mid", "count": 1})
    received = b""
    with stubs.client.stream("GET", TRIGGER, params=QUESTION) as response:
        assert response.status_code == 200
        assert int(response.headers["content-length"]) == len(whole)
        pieces = response.iter_raw()
        while len(received) < len(whole) // 2:
            received += next(pieces)
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            next(pieces)
    assert received == whole[: len(whole) // 2]
    assert stubs.ask().content == whole
    assert [call["end"] for call in stubs.calls()] == ["cut mid", "answered"]


def test_a_caller_that_gives_up_is_noticed(stubs: Stubs) -> None:
    stubs.rules({"path": TRIGGER, "latency_ms": 60_000})
    with pytest.raises(httpx.ReadTimeout):
        stubs.ask(timeout=httpx.Timeout(20, read=0.5))
    (call,) = until(lambda: stubs.calls() or None, "the journal has the call")
    assert (call["status"], call["end"]) == (None, "client left")
    assert call["duration_ms"] < 30_000


def test_a_slow_body_is_slower_than_a_callers_patience_between_bytes(stubs: Stubs) -> None:
    stubs.rules({"path": TRIGGER, "drip_ms": 1, "body": "[1, 2, 3]"})
    assert stubs.ask().json() == [1, 2, 3]
    stubs.rules({"path": TRIGGER, "drip_ms": 60_000})
    with pytest.raises(httpx.ReadTimeout):
        stubs.ask(timeout=httpx.Timeout(20, read=0.5))
    (call,) = until(lambda: stubs.calls() or None, "the journal has the call")
    assert (call["status"], call["end"]) == (200, "client left")


async def _ask_many(port: int, headers: bytes, connections: int, each: int) -> None:
    async def one() -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        for client_id in range(1000, 1000 + each):
            question = f"GET {TRIGGER}?clientId={client_id}&triggerDate=2025-03-09 HTTP/1.1\r\n".encode()
            writer.write(question + headers)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one() for _ in range(connections)))


def test_one_core_carries_a_thousand_calls_a_second(tmp_path: Path) -> None:
    connections, each = 200, 15
    with serving(tmp_path / "stubs.log", "auto") as stubs:
        # The first of all connections wait until all have come.
        stubs.rules({"path": TRIGGER, "latency_ms": 3_000, "count": connections}, latency_ms=100)
        headers = f"host: stubs\r\nauthorization: {stubs.client.headers['authorization']}\r\n\r\n".encode()
        before = stubs.process.cpu_times()
        asyncio.run(_ask_many(stubs.client.base_url.port or 0, headers, connections, each))
        after = stubs.process.cpu_times()
        shown = stubs.client.get("/journal").json()
    assert shown["counts"] == {TRIGGER: {"200": connections * each}}
    # All at once, so that latency does not limit the rate, as it would if a call blocked others.
    assert shown["max_concurrent"] == {TRIGGER: connections}
    # Processor time and not the clock: other work on this machine must not fail the test.
    spent = (after.user + after.system) - (before.user + before.system)
    assert spent / (connections * each) < 0.001
