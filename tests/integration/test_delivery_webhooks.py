"""Posts to receivers over real sockets: what they may do to us, and what reaches them."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import AddrInfoType

from include.clients.webhooks import Endpoint, WebhookResponse, new_socket, open_webhooks
from include.delivery.models import Event
from include.delivery.owner_queue import signed_request
from local.processes.layout import LOOPBACK
from tests.integration.test_partner_stubs import Stubs, serving
from tests.worlds.dynamodb import SECRET, event_item
from tests.worlds.http import server_tls

ARRIVALS = "/journal/receivers"
EVENT = Event.of(event_item(1, created=1_767_225_600.0, payload='{"n":1.50,"t":"ü"}'))


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stubs]:
    with serving(tmp_path_factory.mktemp("receivers") / "stubs.log", "httptools") as running:
        running.client.put("/control/receivers", json={"acme": SECRET}).raise_for_status()
        yield running


def post(stubs: Stubs, *rules: dict[str, Any], times: int = 1) -> list[WebhookResponse]:
    """Post one event some times to a receiver that the rules are for."""
    stubs.rules(*({"path": "/receivers/acme", **rule} for rule in rules))
    stubs.client.delete(ARRIVALS)

    async def run() -> list[WebhookResponse]:
        url = str(stubs.client.base_url.join("/receivers/acme"))
        http = open_webhooks(public_only=False)
        async with Endpoint(url, http, https_only=False) as receiver:
            request = signed_request(EVENT, SECRET, time.time())
            return [await receiver.post(request.body, request.headers) for _ in range(times)]

    return asyncio.run(run())


def arrivals(stubs: Stubs) -> list[dict[str, Any]]:
    return stubs.client.get(ARRIVALS).json()["arrivals"]


def test_a_post_arrives_with_a_signature_that_fits(stubs: Stubs) -> None:
    assert post(stubs, times=3) == [WebhookResponse(200)] * 3
    assert [(each["webhook_id"], each["verified"]) for each in arrivals(stubs)] == [("evt_000000000001", True)] * 3


@pytest.mark.parametrize("cut", ["before", "mid"])
def test_a_cut_connection_is_followed_by_a_new_one(stubs: Stubs, cut: str) -> None:
    replies = post(stubs, {"cut": cut, "count": 1}, times=2)
    # Cut in the middle of the body, the status has been seen.
    assert [reply.accepted for reply in replies] == [cut == "mid", True]


async def test_nothing_reaches_this_machine_under_whatever_name(stubs: Stubs) -> None:
    stubs.client.delete(ARRIVALS)
    port = stubs.client.base_url.port
    replies = []
    for host in ("localhost", LOOPBACK, "[::1]", "[::ffff:127.0.0.1]"):
        async with Endpoint(f"http://{host}:{port}/receivers/acme", open_webhooks(), https_only=False) as receiver:
            replies.append(await receiver.post(b"{}", {}))
    for reply in replies:
        assert reply.failure.error.endswith("failed: the host's address is not public")
    assert arrivals(stubs) == []


def socket_with_little_room(address: AddrInfoType) -> socket.socket:
    """One of which the system takes little of what is sent before it is read."""
    connection = new_socket(address)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return connection


async def test_a_receiver_that_reads_nothing_is_hung_up_on() -> None:
    taken, left = list[int](), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await left.wait()
        taken.append(len(await reader.read()))
        writer.close()

    # Takes a little and then reads no more, so that most of the post stays with us.
    async with await asyncio.start_server(serve, LOOPBACK, 0, limit=1024) as server:
        port = server.sockets[0].getsockname()[1]
        http = open_webhooks(public_only=False, open_socket=socket_with_little_room)
        async with Endpoint(f"http://{LOOPBACK}:{port}/", http, https_only=False, seconds=0.5) as receiver:
            reply = await receiver.post(b"x" * 1_000_000, {})
        left.set()
    assert len(taken) == 1
    assert taken[0] < 1_000_000, "what had not been sent by then is not sent afterwards"
    assert reply.failure.error.endswith("within 0.5 s")


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted_and_the_name_is_asked_for(tmp_path: Path) -> None:
    context, names = server_tls(tmp_path, "receiver.test"), list[str | None]()
    context.sni_callback = lambda connection, name, _: names.append(name)

    async def loopback(host: str, port: int) -> list[str]:
        return [LOOPBACK]

    served = list[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(serve, LOOPBACK, 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        http = open_webhooks(public_only=False, lookup=loopback)
        async with Endpoint(f"https://receiver.test:{port}/", http) as receiver:
            reply = await receiver.post(b"{}", {})
    assert served in ([], [b""])
    assert reply.failure.error.endswith("failed: certificate: self-signed certificate")
    assert names == ["receiver.test"]
