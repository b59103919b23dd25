import asyncio
import socket
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.clients.webhooks import MAX_ADDRESSES, Endpoint, is_public, open_webhooks, resolve
from tests.worlds.http import OK, PUBLIC, FakeNames, FakeNetwork

METADATA = "169.254.169.254"

INSIDE = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.9.9.9",
    METADATA,
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::8.8.8.8",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "3fff::1",
    "3fff:fff:ffff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", INSIDE)
def test_address_within_a_network_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", PUBLIC, "172.32.0.1", "2606:4700::6810:1", "2a00:1450::1", "3ffe::1"])
def test_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_that_carries_another_is_judged_by_that_one(address: IPv4Address) -> None:
    carriers = [
        IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed),
        IPv6Address(b"\0\x64\xff\x9b" + b"\0" * 8 + address.packed),
        IPv6Address(b"\x20\x02" + address.packed + b"\0" * 9 + b"\1"),
    ]
    assert {is_public(carrier) for carrier in carriers} == {is_public(address)}


@given(st.ip_addresses())
def test_nothing_that_has_another_purpose_is_public(address: IPv4Address | IPv6Address) -> None:
    carries = isinstance(address, IPv6Address) and (address.ipv4_mapped or address.sixtofour)
    if is_public(address) and not carries:
        assert address.is_global
        assert not address.is_private
        assert not address.is_multicast


def post(
    network: FakeNetwork, names: FakeNames, *, url: str = "https://receiver.test/", public_only: bool = True
) -> str | None:
    """Post once; why it failed."""

    async def run() -> str | None:
        http = open_webhooks(public_only=public_only, lookup=names, open_socket=network.open_socket, tls=network.tls)
        async with Endpoint(url, http, https_only=False) as endpoint:
            response = await endpoint.post(b"{}", {})
        await network.settled()
        return response.failure.error if response.failure else None

    return asyncio.run(run())


REFUSED = "connection to receiver.test:443 failed: the host's address is not public"


def test_the_address_that_was_checked_is_the_one_connected_to() -> None:
    network, names = FakeNetwork(), FakeNames({"receiver.test": [[PUBLIC], [METADATA]]})
    assert post(network, names) is None
    assert network.asked == [(PUBLIC, 443)]
    assert names.asked == ["receiver.test"], "asked once: a second answer could be another"
    assert post(network, names) == REFUSED
    assert network.asked == [(PUBLIC, 443)]


@pytest.mark.parametrize("address", INSIDE)
@pytest.mark.parametrize("beside", [[], [PUBLIC]])
def test_nothing_is_connected_to_if_one_address_is_not_public(address: str, beside: list[str]) -> None:
    network = FakeNetwork()
    # Equal, so what the name leads to inside is not told.
    assert post(network, FakeNames({"receiver.test": [[*beside, address]]})) == REFUSED
    assert network.asked == []


@pytest.mark.parametrize("address", [address for address in INSIDE if "%" not in address])
def test_an_address_in_the_url_is_checked_as_those_of_a_name_are(address: str) -> None:
    network = FakeNetwork()
    error = post(network, FakeNames({}), url=f"https://[{address}]/" if ":" in address else f"https://{address}/")
    assert error.endswith("failed: the host's address is not public")
    assert network.asked == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1"])
def test_an_address_in_the_url_in_another_spelling_is_refused(host: str) -> None:
    network = FakeNetwork()
    assert post(network, FakeNames({host: [["127.0.0.1"]]}), url=f"https://{host}/")
    assert network.asked == []


def test_the_local_stack_may_connect_to_this_machine() -> None:
    network = FakeNetwork({"127.0.0.1": [OK]})
    assert post(network, FakeNames({"receiver.test": [["127.0.0.1"]]}), public_only=False) is None
    assert network.asked == [("127.0.0.1", 443)]


def test_another_address_is_tried_if_one_does_not_answer() -> None:
    network = FakeNetwork()
    assert post(network, FakeNames({"receiver.test": [["8.8.8.8", PUBLIC]]})) is None
    assert network.asked == [("8.8.8.8", 443), (PUBLIC, 443)]


@pytest.mark.parametrize(
    ("addresses", "tried"), [(["8.8.8.8"], 1), ([f"8.8.8.{n}" for n in range(1, 100)], MAX_ADDRESSES)]
)
def test_a_host_that_nobody_answers_at_is_an_error_of_the_connection(addresses: list[str], tried: int) -> None:
    network = FakeNetwork()
    error = post(network, FakeNames({"receiver.test": [addresses]}))
    assert error == "connection to receiver.test:443 failed: connection refused"
    assert len(set(network.asked)) == tried


def test_names_that_hang_do_not_hold_up_the_lookup_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # As many as the posts of a task at once, some times over: a lookup goes on when its post has given up.
    hanging, answered = 3 * 64, threading.Event()

    def look_up(host: str, port: int, **options: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if host == "hangs.test":
            answered.wait()
            raise OSError("unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (PUBLIC, port))]

    async def run() -> list[str]:
        lost = [asyncio.create_task(resolve("hangs.test", 443)) for _ in range(hanging)]
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(30):
                return await resolve("receiver.test", 443)
        finally:
            answered.set()
            await asyncio.gather(*lost, return_exceptions=True)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert asyncio.run(run()) == [PUBLIC]


@pytest.mark.parametrize("answers", [{}, {"receiver.test": [list[str]()]}])
def test_a_name_without_addresses_is_an_error_of_the_connection(answers: dict[str, list[list[str]]]) -> None:
    assert post(FakeNetwork(), FakeNames(answers)) == "connection to receiver.test:443 failed: name not known"
