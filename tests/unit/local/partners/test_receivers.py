"""The receivers' stub: signatures, what is remembered of arrivals, and rules that spoil the answers."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

SECRET = f"whsec_{base64.b64encode(b'planted-secret-of-acme').decode()}"
ARRIVALS = "/journal/receivers"
SECRETS = "/control/receivers"


def signed(event_id: str, body: bytes, *, secret: str = SECRET, age: timedelta = timedelta()) -> dict[str, str]:
    at = datetime.now(UTC) - age
    return {
        "Webhook-Id": event_id,
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": Webhook(secret).sign(event_id, at, body.decode()),
    }


async def post(client: httpx.AsyncClient, name: str, event_id: str = "evt_1", **options: Any) -> int:
    body = b'{"id":"evt_1"}'
    headers = signed(event_id, body, **options)
    return (await client.post(f"/receivers/{name}", content=body, headers=headers)).status_code


async def arrivals(client: httpx.AsyncClient, **query: str) -> list[dict[str, Any]]:
    return (await client.get(ARRIVALS, params=query)).json()["arrivals"]


async def test_arrivals_are_remembered_in_their_order(client: httpx.AsyncClient) -> None:
    assert (await client.put(SECRETS, json={"acme": SECRET})).json() == {"receivers": ["acme"]}
    for name, event_id in (("acme", "evt_2"), ("other", "evt_1"), ("acme", "evt_2")):
        assert await post(client, name, event_id) == 200
    found = await arrivals(client)
    assert [(each["n"], each["receiver"], each["webhook_id"]) for each in found] == [
        (1, "acme", "evt_2"),
        (2, "other", "evt_1"),
        (3, "acme", "evt_2"),
    ]
    assert [each["verified"] for each in found] == [True, None, True]
    assert all(each["accepted"] and each["timestamp"].isdigit() for each in found)
    assert [each["n"] for each in await arrivals(client, receiver="acme", since="1")] == [3]
    assert (await client.delete(ARRIVALS)).status_code == 204
    assert await arrivals(client) == []
    assert (await client.get(ARRIVALS)).json()["last"] == 3


@pytest.mark.parametrize("options", [{"secret": "whsec_b3RoZXI="}, {"age": timedelta(minutes=6)}])
async def test_a_signature_that_does_not_fit_is_refused(client: httpx.AsyncClient, options: dict[str, Any]) -> None:
    await client.put(SECRETS, json={"acme": SECRET})
    assert await post(client, "acme", **options) == 401
    (found,) = await arrivals(client)
    assert (found["verified"], found["accepted"]) == (False, False)


async def test_a_receiver_fails_as_often_as_a_rule_says_and_then_accepts(client: httpx.AsyncClient) -> None:
    rules = [{"path": "/receivers/acme", "count_each": 2, "status": 503, "headers": {"Retry-After": "1"}}]
    assert (await client.put("/control", json={"rules": rules})).status_code == 200
    assert [await post(client, "acme", "evt_1") for _ in range(3)] == [503, 503, 200]
    assert await post(client, "acme", "evt_2") == 503, "each event by itself"
    assert await post(client, "other", "evt_1") == 200
    assert [each["accepted"] for each in await arrivals(client)] == [False, False, True, False, True]


async def test_rules_can_single_out_an_event(client: httpx.AsyncClient) -> None:
    rules = [{"path": "/receivers", "match": {"webhookId": "evt_2"}, "status": 410}]
    await client.put("/control", json={"rules": rules})
    assert [await post(client, "acme", f"evt_{number}") for number in (1, 2, 3)] == [200, 410, 200]


@pytest.mark.parametrize("content", [[], "x", {"acme": ""}, {"acme": 7}, {"acme": "whsec_"}, {"acme": "whsec_a"}])
async def test_secrets_that_are_none_are_refused_and_change_nothing(client: httpx.AsyncClient, content: Any) -> None:
    await client.put(SECRETS, json={"known": SECRET})
    response = await client.put(SECRETS, json=content)
    assert response.status_code == 422
    assert response.json()["problems"]
    assert (await client.get(SECRETS)).json() == {"receivers": ["known"]}


async def test_secrets_are_forgotten_and_never_shown(client: httpx.AsyncClient) -> None:
    await client.put(SECRETS, json={"acme": SECRET})
    await post(client, "acme")
    for path in (SECRETS, ARRIVALS, "/control", "/journal"):
        text = (await client.get(path)).text
        assert SECRET not in text
        assert "v1," not in text
    assert (await client.delete(SECRETS)).status_code == 204
    await post(client, "acme", secret="whsec_b3RoZXI=")
    assert (await arrivals(client))[-1]["verified"] is None


@pytest.mark.parametrize("path", ["/receivers", "/receivers/", "/receivers/a/b"])
async def test_only_receivers_by_name_are_there(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.post(path, content=b"{}")).status_code == 404
    assert await arrivals(client) == []
