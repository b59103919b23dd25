"""The call-details stub: its login, what it takes, what it remembers, and faults that come before or after that."""

import asyncio
import hashlib
import json
from typing import Any

import httpx
import pytest

from local.partners.app import PartnerStubs
from local.partners.call_details import BATCH_PATH, LOGIN_PATH, ApiKeys, keys_from_environment
from local.partners.dex import Credentials
from tests.unit.local.partners.conftest import SECRET, calling, set_rules

KEYS = {"accessKey": "me", "secretKey": SECRET}
RECEIVED = "/journal/call-details"


@pytest.fixture(autouse=True)
def keys_of_the_stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALL_DETAILS_ACCESS_KEY", KEYS["accessKey"])
    monkeypatch.setenv("CALL_DETAILS_SECRET_KEY", KEYS["secretKey"])


async def log_in(client: httpx.AsyncClient) -> None:
    """Fetch a token and use it from now on."""
    response = await client.post(LOGIN_PATH, json=KEYS)
    assert response.status_code == 200, response.text
    client.headers["authorization"] = f"Bearer {response.json()['token']}"


def body_of(*records: str) -> bytes:
    """A batch as the pipeline writes it; records are JSON already."""
    joined = ",".join(records)
    return f'{{"records":[{joined}],"timestamp":"2026-03-08T12:00:00.000Z","batchSize":{len(records)}}}'.encode()


async def post(client: httpx.AsyncClient, key: str | None = "k1", body: bytes = body_of('{"n":1.50}')) -> int:
    response = await client.post(BATCH_PATH, content=body, headers={"Idempotency-Key": key} if key is not None else {})
    return response.status_code


async def received(client: httpx.AsyncClient, **query: str) -> dict[str, Any]:
    return (await client.get(RECEIVED, params=query)).json()


async def test_batches_are_remembered_by_key_with_what_they_were_and_how_often_they_came(
    client: httpx.AsyncClient,
) -> None:
    await log_in(client)
    records = ['{"n":1.50}', '"text"', "[1, 2]"]
    for key, body in (("k1", body_of(*records)), ("k2", body_of("7")), ("k1", body_of(*records))):
        assert await post(client, key, body) == 200
    assert await received(client) == {"batches": 2, "records": 4, "times": 3, "repeated": 1, "conflicting": 0}
    digest = hashlib.sha256(b'{"n":1.50},"text",[1, 2]').hexdigest()
    assert (await received(client, batches="true"))["by_key"]["k1"] == {"records": 3, "sha256": digest, "times": 2}
    await post(client, "k2", body_of("8"))
    assert (await received(client))["conflicting"] == 1
    assert (await client.delete(RECEIVED)).status_code == 204
    assert (await received(client))["times"] == 0


@pytest.mark.parametrize(
    "content", [{}, {"accessKey": "me"}, [], KEYS | {"secretKey": "wrong"}, KEYS | {"secretKey": 7}]
)
async def test_wrong_keys_get_no_token(client: httpx.AsyncClient, content: Any) -> None:
    response = await client.post(LOGIN_PATH, json=content)
    assert response.status_code in (400, 401)
    assert "token" not in response.text.replace("accessKey", "")


async def test_without_keys_of_its_own_the_stub_says_what_to_set(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CALL_DETAILS_SECRET_KEY")
    response = await client.post(LOGIN_PATH, json=KEYS)
    assert response.status_code == 401
    assert "CALL_DETAILS_SECRET_KEY" in response.text
    assert keys_from_environment({"CALL_DETAILS_ACCESS_KEY": "a", "CALL_DETAILS_SECRET_KEY": "b"}) == ApiKeys("a", "b")
    assert "b" not in repr(ApiKeys("a", "b")).removeprefix("ApiKeys")


async def test_token_is_checked_and_expires() -> None:
    now = 0.0
    client = calling(PartnerStubs(lambda: Credentials("me", "x"), clock=lambda: now))
    await set_rules(client, token_expires_in=60)
    assert await post(client) == 401
    await log_in(client)
    assert client.headers["authorization"].count(".") == 2, "a JWT"
    now = 59.0
    assert await post(client) == 200
    now = 60.0
    assert await post(client) == 401
    client.headers["authorization"] = "Bearer eyJhbGciOiJub25lIn0.e30."
    assert await post(client) == 401


@pytest.mark.parametrize(
    ("key", "body"),
    [
        (None, body_of("1")),
        ("", body_of("1")),
        ("k" * 201, body_of("1")),
        ("k1", b""),
        ("k1", b"[]"),
        ("k1", b"{"),
        ("k1", b"\xff"),
        ("k1", body_of()),
        ("k1", body_of(*["1"] * 501)),
        ("k1", body_of("NaN")),
        ("k1", body_of("-Infinity")),
        ("k1", body_of("1").replace(b'"batchSize":1', b'"batchSize":2')),
        ("k1", body_of("1").replace(b'"batchSize":1', b'"batchSize":true')),
        ("k1", body_of("1").replace(b".000Z", b"Z")),
        ("k1", b'{"records":[1],"batchSize":1}'),
    ],
)
async def test_what_is_no_batch_is_refused_and_not_remembered(
    client: httpx.AsyncClient, key: str | None, body: bytes
) -> None:
    await log_in(client)
    assert await post(client, key, body) == 400
    assert (await received(client))["times"] == 0


@pytest.mark.parametrize(
    "record",
    ["1" * 5000, "1e999", '"\\ud800"', "[" * 100_000 + "]" * 100_000, '{"a":1,"a":2}', json.dumps('],"timestamp":')],
)
async def test_odd_records_are_taken_as_they_are(client: httpx.AsyncClient, record: str) -> None:
    await log_in(client)
    assert await post(client, "k1", body_of("0", record)) == 200
    found = (await received(client, batches="true"))["by_key"]["k1"]
    assert found == {"records": 2, "sha256": hashlib.sha256(f"0,{record}".encode()).hexdigest(), "times": 1}


@pytest.mark.parametrize(
    ("rule", "status", "taken"),
    [
        ({"status": 500}, 500, 0),
        ({"status": 500, "applied": True}, 500, 1),
        ({"status": 302}, 302, 0),
        ({"status": 202}, 202, 1),
        ({"body": "<html>"}, 200, 1),
        ({"latency_ms": 1}, 200, 1),
        ({"latency_ms": 1, "status": 503}, 503, 0),
        ({"headers": {"Retry-After": "1"}, "status": 429}, 429, 0),
    ],
)
async def test_batch_is_taken_unless_its_call_fails_or_although_it_does(
    client: httpx.AsyncClient, rule: dict[str, Any], status: int, taken: int
) -> None:
    await log_in(client)
    await set_rules(client, {"path": BATCH_PATH, **rule})
    assert await post(client) == status
    assert (await received(client))["times"] == taken


async def test_faults_can_be_for_one_batch(client: httpx.AsyncClient) -> None:
    await log_in(client)
    await set_rules(
        client,
        {"match": {"idempotencyKey": ["k2"]}, "status": 400},
        {"path": BATCH_PATH, "contains": "pöison", "status": 422},
        {"path": BATCH_PATH, "count_each": 1, "status": 503},
    )
    sent = [await post(client, key) for key in ("k1", "k2", "k1", "k3", "k3")]
    assert sent == [503, 400, 200, 503, 200]
    assert await post(client, "k4", body_of('"a pöison b"')) == 422
    journal = (await client.get("/journal", params={"path": BATCH_PATH})).json()
    assert [call["query"]["idempotencyKey"] for call in journal["calls"]] == ["k1", "k2", "k1", "k3", "k3", "k4"]
    assert journal["counts"][BATCH_PATH] == {"200": 2, "400": 1, "422": 1, "503": 2}


async def test_calls_at_once_are_counted_and_no_secret_is_shown(client: httpx.AsyncClient) -> None:
    await log_in(client)
    token = client.headers["authorization"].removeprefix("Bearer ")
    await set_rules(client, latency_ms=20)
    await asyncio.gather(*(post(client, f"k{number}") for number in range(50)))
    shown = await client.get("/journal")
    assert shown.json()["max_concurrent"][BATCH_PATH] == 50
    everything = shown.text + (await client.get(RECEIVED, params={"batches": "true"})).text
    assert token not in everything
    assert KEYS["secretKey"] not in everything
