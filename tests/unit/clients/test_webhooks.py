import asyncio
import logging
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

import pytest

from include.clients.http import Failure
from include.clients.webhooks import Endpoint, WebhookResponse, open_webhooks, usable_url
from tests.worlds.http import OK, PUBLIC, FakeNames, FakeNetwork, Hang
from tests.worlds.pipeline import PLANTED, leaks

URL = "https://receiver.test/hook?a=b"
BODY = b'{"id":"evt_1"}'
HEADERS = {"Content-Type": "application/json", "Webhook-Id": "evt_1"}
LATE = "no answer from receiver.test:443 within 0.2 s"
NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)


def post(
    network: FakeNetwork,
    *,
    url: str = URL,
    addresses: tuple[str, ...] = (PUBLIC,),
    times: int = 1,
    seconds: float = 10.0,
    https_only: bool = True,
    names: FakeNames | None = None,
) -> list[WebhookResponse]:
    """Post some times, one after the other, to a receiver at these addresses."""

    async def run() -> list[WebhookResponse]:
        found = names or FakeNames({"receiver.test": [list(addresses)]})
        http = open_webhooks(lookup=found, open_socket=network.open_socket, tls=network.tls)
        async with Endpoint(url, http, seconds=seconds, https_only=https_only, clock=NOW.timestamp) as receiver:
            replies = [await receiver.post(BODY, HEADERS) for _ in range(times)]
        await network.settled()
        return replies

    return asyncio.run(run())


def serving(*replies: Any, pause: float = 0.0) -> FakeNetwork:
    return FakeNetwork({PUBLIC: list(replies)}, pause=pause)


def answer(status: int, *headers: str, body: bytes = b"{}") -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}", *headers])
    return head.encode() + b"\r\n\r\n" + body


def test_the_request_is_the_one_that_was_asked_for_and_tls_and_host_see_the_name() -> None:
    network = FakeNetwork()
    assert post(network) == [WebhookResponse(200)]
    (stream,) = network.streams
    assert network.asked == [(PUBLIC, 443)]
    assert stream.tls_name == "receiver.test"
    head, _, body = bytes(stream.written).partition(b"\r\n\r\n")
    assert body == BODY
    assert head.split(b"\r\n")[0] == b"POST /hook?a=b HTTP/1.1"
    assert set(head.split(b"\r\n")[1:]) == {
        b"Host: receiver.test",
        b"Content-Length: 14",
        b"User-Agent: webhooks",
        b"Content-Type: application/json",
        b"Webhook-Id: evt_1",
    }


def test_one_connection_serves_many_posts() -> None:
    network = FakeNetwork()
    assert post(network, times=5) == [WebhookResponse(200)] * 5
    assert len(network.streams) == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_an_acceptance(status: int) -> None:
    (reply,) = post(serving(answer(status, body=b"" if status == 204 else b"<html>")))
    assert reply.accepted
    assert reply.status == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    network = serving(answer(status, "Location: http://169.254.169.254/latest/meta-data/"))
    (reply,) = post(network)
    assert (reply.accepted, reply.status) == (False, status)
    assert network.asked == [(PUBLIC, 443)]


@pytest.mark.parametrize("status", [400, 404, 410, 429, 500, 503, 599])
def test_any_other_status_is_a_refusal_and_nothing_of_its_body_is_reported(status: int) -> None:
    (reply,) = post(serving(answer(status, body=PLANTED.encode())))
    assert (reply.accepted, reply.status) == (False, status)
    assert leaks(repr(reply), PLANTED) == []


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("value", ["7", format_datetime(NOW + timedelta(seconds=7), usegmt=True)])
def test_what_the_receiver_asks_to_wait_is_reported(status: int, value: str) -> None:
    (reply,) = post(serving(answer(status, f"Retry-After: {value}")))
    assert reply.failure.retry_after == 7


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([Hang()], id="headers never come"),
        pytest.param([[b"HTTP/1.1 200 OK\r\n", Hang()]], id="headers stop"),
        pytest.param([[bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 10_000]], id="slow headers"),
        pytest.param([[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 10_000], id="hints without end"),
    ],
)
def test_a_receiver_that_takes_its_time_is_cut_off(script: list[Any]) -> None:
    network = FakeNetwork({PUBLIC: script}, pause=0.001)
    late = Failure(None, LATE, retryable=True)
    assert post(network, seconds=0.2) == [WebhookResponse(None, late)]


def test_an_address_that_does_not_connect_is_cut_off() -> None:
    # The fake's first reply says how it connects.
    assert post(serving(Hang()), seconds=0.2)[0].status is None


def test_a_name_server_that_hangs_is_cut_off() -> None:
    names = FakeNames({"receiver.test": [[PUBLIC]]}, wait=lambda: asyncio.sleep(3600))
    network = FakeNetwork()
    (reply,) = post(network, seconds=0.2, names=names)
    assert not reply.accepted
    assert network.asked == []


def test_a_body_that_drips_does_not_take_back_the_acceptance_nor_hold_up_the_next_post() -> None:
    dripping = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"a", Hang()]
    network = serving(dripping, OK)
    assert post(network, times=2, seconds=2) == [WebhookResponse(200), WebhookResponse(200)]
    assert len(network.streams) == 2, "the first connection is of no use any more"


def test_ten_megabytes_cost_nothing() -> None:
    piece = b"x" * 65_536
    network = serving([b"HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n", *[piece] * 160])
    assert post(network) == [WebhookResponse(200)]
    (stream,) = network.streams
    assert stream.sent < 1_000_000, "what was on its way, and no more"


def test_a_body_without_end_costs_nothing() -> None:
    chunks = [b"400\r\n" + b"x" * 1024 + b"\r\n"] * 1000
    network = serving([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *chunks])
    assert post(network) == [WebhookResponse(200)]
    assert network.streams[0].sent < 600_000, "what was on its way, and no more"


@pytest.mark.parametrize(
    "reply", [ConnectionResetError(PLANTED), ssl.SSLError(PLANTED), b"", b"SSH-2.0-OpenSSH\r\n\r\n"]
)
def test_a_connection_that_breaks_is_a_refusal_that_tells_nothing(reply: Any) -> None:
    (told,) = post(serving(reply))
    assert told.status is None
    assert told.failure.error.startswith("connection to receiver.test:443 failed: ")
    assert leaks(told.failure.error, PLANTED) == []


def test_a_head_without_end_does_not_take_back_the_acceptance() -> None:
    endless = [b"HTTP/1.1 200 OK\r\nX: " + b"a" * 60_000, *[b"a" * 60_000] * 9]
    assert post(serving(endless, OK), times=2) == [WebhookResponse(200), WebhookResponse(200)]


def test_tls_that_breaks_in_the_body_does_not_take_back_the_acceptance() -> None:
    breaking = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"a", ssl.SSLError(PLANTED)]
    assert post(serving(breaking, OK), times=2) == [WebhookResponse(200), WebhookResponse(200)]


@pytest.mark.parametrize("host", ["xn--a", "xn--zzzzzz99.example.com", "xn--.test", "a" * 70 + ".test"])
def test_a_name_that_is_no_idna_is_left_to_the_name_server(host: str) -> None:
    (reply,) = post(FakeNetwork(), url=f"https://{host}/hook", names=FakeNames({}))
    assert reply == WebhookResponse(
        None, Failure(None, f"connection to {host}:443 failed: name not known", retryable=True)
    )


@pytest.mark.parametrize("closed", [b"", ConnectionResetError("gone")])
def test_a_receiver_that_closes_after_each_answer_and_does_not_say_so_is_met_once_more(closed: Any) -> None:
    network = serving(OK, closed, OK)
    assert post(network, times=2) == [WebhookResponse(200), WebhookResponse(200)]
    assert len(network.streams) == 2
    (_, reply) = post(serving(OK, closed, closed), times=2)
    assert reply.failure.error == "connection to receiver.test:443 failed: closed before the answer was complete"


def test_a_new_connection_is_made_after_one_that_broke() -> None:
    network = serving(ConnectionResetError("gone"), OK)
    assert [reply.accepted for reply in post(network, times=3)] == [False, True, True]
    assert len(network.streams) == 2


def test_a_host_inside_is_refused_and_nothing_is_connected_to() -> None:
    network = FakeNetwork({"10.0.0.1": [OK]})
    (reply,) = post(network, addresses=("10.0.0.1",))
    assert reply.failure.error.endswith("failed: the host's address is not public")
    assert network.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://receiver.test/hook",
        "ftp://receiver.test/hook",
        "file:///etc/passwd",
        "https://",
        "receiver.test/hook",
        f"https://user:{quote(PLANTED)}@receiver.test/hook",
        "https://receiver.test:99999/hook",
        "https://[::1/hook",
        "",
        "https://receiver.test/\nX-Injected: 1",
    ],
)
def test_urls_that_are_not_posted_to(url: str) -> None:
    network = FakeNetwork()
    (reply,) = post(network, url=url)
    assert reply == WebhookResponse(None, Failure(None, "the URL cannot be used", retryable=True))
    assert network.asked == []


def test_http_is_for_the_local_stack() -> None:
    network = FakeNetwork()
    assert post(network, url="http://receiver.test/hook", https_only=False) == [WebhookResponse(200)]
    assert network.asked == [(PUBLIC, 80)]
    assert network.streams[0].tls_name is None
    assert usable_url("http://receiver.test/hook", https_only=True) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"])
def test_addresses_in_the_url_are_checked_like_any_other(host: str) -> None:
    plain = {"2130706433": "127.0.0.1", "0x7f.1": "127.0.0.1"}.get(host, host.strip("[]"))
    names = FakeNames({host.strip("[]"): [[plain]]})
    network = FakeNetwork()
    (reply,) = post(network, url=f"https://{host}/hook", names=names)
    assert not reply.accepted
    assert network.asked == []


def test_the_environment_s_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://proxy.test:3128")
    network = FakeNetwork()
    assert post(network) == [WebhookResponse(200)]
    assert network.asked == [(PUBLIC, 443)]


def test_nothing_of_a_post_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    post(serving(answer(500, body=PLANTED.encode()), OK), times=2)
    assert caplog.text == ""
