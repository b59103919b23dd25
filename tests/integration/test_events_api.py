"""What the deployed events API does for whoever has a key."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from lambdas.events_api.api_keys import id_of
from lambdas.events_api.models import MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES
from tests.integration.deployed_api import CALL_SECONDS, eventually
from tests.integration.events import DOCUMENT, NO_SUCH_EVENT, EventsApi, Owner, new_event, unique

if TYPE_CHECKING:
    import httpx

AT_ONCE = 2
"""More would measure how long the emulator takes to start as many functions; the store is tested with more."""


@pytest.fixture
def owner(events_api: EventsApi) -> Owner:
    return events_api.owner()


def test_health_is_open_and_tells_version_and_environment(events_api: EventsApi) -> None:
    answer = events_api.call("GET /health")
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "status": "ok",
            "message": "Triggers API is healthy",
            "version": DOCUMENT["info"]["version"],
            "environment": "local",
        },
    )


def test_key_of_the_tool_opens_the_api_in_either_header_until_it_is_revoked(events_api: EventsApi) -> None:
    name = unique("of-the-tool")
    key, said = events_api.run_tool("api_keys", "create", "--owner", name, "--label", "test", "--environment", "local")
    assert "shown this once" in said
    first = events_api.call("POST /events", headers={"Authorization": f"Bearer {key}"}, body=new_event())
    assert first.status_code == 201, first.text
    item = events_api.stored(first.json()["event_id"])
    assert item is not None
    assert item["owner"] == {"S": name}
    listed, _ = events_api.run_tool("api_keys", "list", "--owner", name, "--environment", "local")
    assert name in listed
    assert key not in listed
    # One that the function has not seen yet: others it takes for a minute more.
    revoked = events_api.owner().key
    events_api.run_tool("api_keys", "revoke", id_of(revoked), "--environment", "local")
    assert events_api.call("GET /events", headers={"X-API-Key": revoked}).status_code == 403
    assert events_api.call("GET /events", headers={"X-API-Key": key}).status_code == 200


PAYLOAD = (
    '{"exact":[2.10,1e400,-0.0,123456789012345678901234567890.12345678901234567890],'
    '"text":"\\"\\\\ é \U0001f600 e\u0301 \u2028 </script>","null":null,"nested":{"":[[],{}]}}'
)


@pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream"])
def test_event_is_stored_digit_by_digit_and_shown_so(events_api: EventsApi, owner: Owner, content_type: str) -> None:
    events_api.woken()
    body = f'{{ "event_type" : "a.b_1", "metadata": {{"sum": 0.30}}, "payload" : {PAYLOAD} }}'.encode()
    answer = events_api.call("POST /events", headers={"X-API-Key": owner.key, "Content-Type": content_type}, body=body)
    assert answer.status_code == 201, answer.text
    event_id, created_at = answer.json()["event_id"], answer.json()["created_at"]
    item = dict(events_api.stored(event_id) or {})
    assert item.pop("written_by")
    assert item == {
        "event_id": {"S": event_id},
        "owner": {"S": owner.name},
        "event_type": {"S": "a.b_1"},
        "payload": {"S": PAYLOAD},
        "metadata": {"S": '{"sum":0.30}'},
        "status": {"S": "pending"},
        "owner_status": {"S": f"{owner.name}#pending"},
        "created_at": {"S": created_at},
        "next_attempt_at": {"S": created_at},
        "position": {"S": f"{created_at}#{event_id}"},
        "delivery_attempts": {"N": "0"},
        "version": {"N": "1"},
    }
    for route in (f"GET /events/{event_id}", "GET /events", "GET /inbox"):
        assert f'"payload":{PAYLOAD},"metadata":{{"sum":0.30}}' in owner.call(route).text
    assert events_api.woken() == [{"event_id": event_id}]


def test_every_new_event_wakes_the_delivery_once(events_api: EventsApi, owner: Owner) -> None:
    events_api.woken()
    ids = [owner.post() for _ in range(12)]
    assert sorted(message["event_id"] for message in events_api.woken()) == sorted(ids)


def test_page_of_large_events_is_cut_short_and_none_is_left_out(owner: Owner) -> None:
    ids = [owner.post(payload={"text": "x" * (MAX_PAYLOAD_BYTES - 20)}) for _ in range(6)]
    found, cursor = owner.page("/inbox")
    assert 0 < len(found) < len(ids), "DynamoDB reads a megabyte at a time"
    while cursor is not None:
        more, cursor = owner.page("/inbox", cursor=cursor)
        found += more
    assert found == ids


def test_document_and_its_page_are_served_without_a_key(events_api: EventsApi) -> None:
    document, page = events_api.call("GET /openapi.json"), events_api.call("GET /docs")
    assert (document.status_code, document.json()) == (200, DOCUMENT)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "openapi.json" in page.text
    for answer in (document, page):
        assert answer.headers["cache-control"] == "public, max-age=3600"


def test_page_of_another_origin_may_call_the_local_stack(events_api: EventsApi, owner: Owner) -> None:
    asked = {"Origin": "https://shop.test", "Access-Control-Request-Headers": "x-api-key,content-type"}
    preflight = events_api.call("OPTIONS /events", headers={**asked, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code in (200, 204)
    assert preflight.headers["access-control-allow-origin"] in ("*", "https://shop.test")
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "x-api-key" in preflight.headers["access-control-allow-headers"].lower()
    headers = {"Origin": "https://shop.test", "X-API-Key": owner.key}
    assert "access-control-allow-origin" in events_api.call("GET /inbox", headers=headers).headers


def at_once(call: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """The answers to as many calls, all begun at the same moment."""
    start = Barrier(AT_ONCE, timeout=CALL_SECONDS)

    def one(_: int) -> httpx.Response:
        start.wait()
        return call()

    with ThreadPoolExecutor(AT_ONCE) as callers:
        return list(callers.map(one, range(AT_ONCE)))


def test_same_key_at_the_same_instant_makes_one_event(events_api: EventsApi, owner: Owner) -> None:
    for number in range(5):
        body = new_event(idempotency_key=f"instant-{number}")
        answers = at_once(lambda body=body: owner.call("POST /events", body=body))  # type: ignore[misc]
        assert sorted(answer.status_code for answer in answers) == [200] * (AT_ONCE - 1) + [201]
        assert len({answer.json()["event_id"] for answer in answers}) == 1
        assert len(events_api.stored_of(owner.name)) == number + 1


def sized(field: str, size: int) -> bytes:
    """A new event whose payload or metadata has this many bytes without white space, half of them in UTF-8."""
    filled = json.dumps({"a": ""}).encode()
    room = size - len(filled) + 1  # json.dumps writes a space
    text = "é" * (room // 2) + "x" * (room % 2)
    return json.dumps(new_event(**{field: {"a": text}}), ensure_ascii=False).encode()


@pytest.mark.parametrize(("field", "most"), [("payload", MAX_PAYLOAD_BYTES), ("metadata", MAX_METADATA_BYTES)])
def test_largest_event_is_taken_and_one_byte_more_is_not(
    events_api: EventsApi, owner: Owner, field: str, most: int
) -> None:
    taken = owner.call("POST /events", body=sized(field, most))
    assert taken.status_code == 201, taken.text
    item = events_api.stored(taken.json()["event_id"])
    assert item is not None
    assert len(item[field]["S"].encode()) == most
    refused = owner.call("POST /events", body=sized(field, most + 1))
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
    assert len(events_api.stored_of(owner.name)) == 1


def test_table_that_does_not_answer_is_a_503_without_internals(events_api: EventsApi, owner: Owner) -> None:
    with events_api.variables("events-api", EVENTS_TABLE="events-missing"):
        answers = [
            owner.call("POST /events", body=new_event()),
            owner.call("GET /inbox"),
            owner.call(f"DELETE /events/{NO_SUCH_EVENT}"),
        ]
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert "retry-after" not in answer.headers, "to come back soon would not help"
        assert "missing" not in answer.text
    eventually("events can be stored again", lambda: owner.call("GET /inbox").status_code == 200)
