"""What the deployed events API does for whoever has a key."""

import pytest

from lambdas.events_api.api_keys import id_of
from lambdas.events_api.models import MAX_PAYLOAD_BYTES
from tests.integration.events import DOCUMENT, EventsApi, Owner, new_event, unique


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
