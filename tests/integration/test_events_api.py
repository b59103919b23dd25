"""What the deployed events API does for whoever has a key."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from lambdas.events_api.api_keys import id_of
from lambdas.events_api.models import MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES
from tests.integration.deployed_api import CALL_SECONDS, eventually
from tests.integration.events import API_LOG, DOCUMENT, NO_SUCH_EVENT, EventsApi, Owner, new_event, unique

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


def test_listings_are_in_order_and_go_on_behind_their_cursors(owner: Owner) -> None:
    ids = [owner.post(event_type=f"number.{number}") for number in range(5)]
    assert owner.call(f"POST /events/{ids[1]}/acknowledge").status_code == 204
    pending = [event_id for event_id in ids if event_id != ids[1]]
    for path, params, expected in (
        ("/events", {}, ids[::-1]),
        ("/events", {"status": "pending"}, pending[::-1]),
        ("/events", {"status": "acknowledged"}, [ids[1]]),
        ("/events", {"status": "failed"}, []),
        ("/inbox", {}, pending),
    ):
        for limit in (1, 2, 100):
            found, cursor = owner.page(path, limit=limit, **params)
            while cursor is not None:
                more, cursor = owner.page(path, limit=limit, cursor=cursor, **params)
                assert len(more) <= limit
                found += more
            assert found == expected, (path, params, limit)


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


def test_acknowledged_event_leaves_the_inbox_and_comes_back_by_a_replay(events_api: EventsApi, owner: Owner) -> None:
    event_id, later = owner.post(), owner.post()
    acknowledged = []
    for _ in range(2):
        answer = owner.call(f"POST /events/{event_id}/acknowledge")
        assert (answer.status_code, answer.content) == (204, b"")
        acknowledged.append(owner.call(f"GET /events/{event_id}").json())
    assert acknowledged[0]["status"] == "acknowledged"
    assert acknowledged[0]["next_attempt_at"] is None
    assert acknowledged[0] == acknowledged[1], "the second time changes nothing"
    assert owner.page("/inbox") == ([later], None)
    events_api.woken()
    answer = owner.call(f"POST /events/{event_id}/replay")
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert owner.page("/inbox") == ([event_id, later], None), "it keeps its place"
    assert events_api.woken() == [{"event_id": event_id}]
    assert owner.call(f"GET /events/{event_id}").json()["acknowledged_at"] is None


def test_deleted_event_is_gone(events_api: EventsApi, owner: Owner) -> None:
    event_id = owner.post(idempotency_key="k")
    assert owner.call(f"DELETE /events/{event_id}").status_code == 204
    assert events_api.stored(event_id) is None
    for route in ("GET /events/{}", "DELETE /events/{}", "POST /events/{}/acknowledge", "POST /events/{}/replay"):
        assert owner.call(route.format(event_id)).status_code == 404
    assert owner.page("/events") == ([], None)
    assert owner.post(idempotency_key="k") == event_id, "the key is free again"


def test_same_key_again_gives_the_first_event_or_a_conflict(events_api: EventsApi, owner: Owner) -> None:
    first = owner.call("POST /events", body=new_event(idempotency_key="order:1"))
    again = owner.call("POST /events", body=new_event(idempotency_key="order:1"))
    other = owner.call("POST /events", body=new_event(idempotency_key="order:1", payload={"other": 2}))
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert {name: value for name, value in again.json().items() if name != "message"} == {
        name: value for name, value in first.json().items() if name != "message"
    }
    (item,) = events_api.stored_of(owner.name)
    assert item["payload"] == {"S": '{"order":1}'}
    assert events_api.owner().post(idempotency_key="order:1") != first.json()["event_id"]


def test_key_of_an_event_that_was_stored_before_ids_had_a_secret_is_that_event(
    events_api: EventsApi, owner: Owner
) -> None:
    event_id, before = owner.post(idempotency_key="order:1"), f"evt_{uuid.uuid4().hex[:12]}"
    item = events_api.stored(event_id)
    assert item is not None
    position = {"S": f"{item['created_at']['S']}#{before}"}
    events_api.aws.dynamodb.put_item(
        TableName=events_api.outputs["EventsTableName"],
        Item={**item, "event_id": {"S": before}, "position": position},
    )
    assert owner.call(f"DELETE /events/{event_id}").status_code == 204
    again = owner.call("POST /events", body=new_event(idempotency_key="order:1"))
    other = owner.call("POST /events", body=new_event(idempotency_key="order:1", payload={"other": 2}))
    assert (again.status_code, again.json()["event_id"], other.status_code) == (200, before, 409)
    assert len(events_api.stored_of(owner.name)) == 1


def test_new_key_waits_for_the_secret_of_the_ids_and_nothing_else_does(events_api: EventsApi, owner: Owner) -> None:
    secret = events_api.aws.secrets.get_secret_value(SecretId="events-api/event-ids")["SecretString"]
    known = owner.post(idempotency_key="known")
    with events_api.variables("events-api", EVENT_IDS_SECRET_ID="events-api/missing"):
        refused = owner.call("POST /events", body=new_event(idempotency_key="k"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert owner.call("POST /events", body=new_event(idempotency_key="known")).json()["event_id"] == known
        assert owner.call("POST /events", body=new_event()).status_code == 201
    body = new_event(idempotency_key="k")
    eventually("the secret is there", lambda: owner.call("POST /events", body=body).status_code in (200, 201))
    assert owner.call("POST /events", body=body).status_code == 200
    log = "\n".join(events_api.log(API_LOG))
    assert "secret of the event ids: ResourceNotFoundException" in log
    assert secret not in log


def test_events_of_one_type_or_time_are_listed(owner: Owner) -> None:
    ids = [owner.post(event_type=name) for name in ("a", "b", "a")]
    created = [owner.call(f"GET /events/{event_id}").json()["created_at"] for event_id in ids]
    eventually("the index has them all", lambda: len(owner.page("/events")[0]) == 3)
    assert owner.page("/events", event_type="a") == ([ids[2], ids[0]], None)
    found, cursor = owner.page("/events", event_type="a", limit="1")
    assert found == [ids[2]]
    assert owner.page("/events", event_type="a", cursor=cursor)[0] == [ids[0]]
    assert owner.page("/events", until=created[0]) == ([], None)
    assert set(owner.page("/events", since=created[0])[0]) == set(ids)


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


def test_deletes_at_the_same_instant_delete_once(owner: Owner) -> None:
    event_id = owner.post()
    answers = at_once(lambda: owner.call(f"DELETE /events/{event_id}"))
    assert sorted(answer.status_code for answer in answers) == [204] + [404] * (AT_ONCE - 1)


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
