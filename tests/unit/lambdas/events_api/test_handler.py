import io
import json
import re
from collections.abc import Callable
from types import ModuleType

import pytest
from botocore.exceptions import ReadTimeoutError

from lambdas.tools.openapi import events_document
from tests.worlds.events_api import ID, NEW, OF_ONE_EVENT, Api, lines
from tests.worlds.s3 import raising
from tests.worlds.sqs import QUEUE_URL

Divert = Callable[[ModuleType], io.StringIO]


def test_health_is_open(api: Api) -> None:
    assert api.call("GET /health", owner=None) == (
        200,
        {"status": "ok", "message": "Triggers API is healthy", "version": "1.2.3", "environment": "test"},
    )


@pytest.mark.parametrize(
    "path", ["/health", "/openapi.json", "/docs", "/events", f"/events/{ID}", "/inbox", "/events/no"]
)
def test_head_is_answered_as_get_is_but_without_a_body(api: Api, posted: str, path: str) -> None:
    assert posted == ID
    answer = api.raw(f"GET {path}")
    assert api.raw(f"HEAD {path}") == {**answer, "body": ""}


def test_the_api_serves_its_own_document_open_and_cached(api: Api) -> None:
    status, document = api.call("GET /openapi.json", owner=None)
    assert (status, document) == (200, json.loads(json.dumps(events_document())))
    assert api.headers["Cache-Control"] == "public, max-age=3600"


def test_the_page_of_the_document_is_open_and_loads_nothing_from_elsewhere(api: Api) -> None:
    answer = api.raw("GET /docs", owner=None)
    page = answer["body"]
    assert (answer["statusCode"], answer["headers"]["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer["headers"]["Cache-Control"] == "public, max-age=3600"
    assert answer["headers"]["Content-Security-Policy"].startswith("default-src 'none'")
    document = events_document()
    for path, operations in (*document["paths"].items(), *document["webhooks"].items()):
        assert f"<code>{path}</code>" in page
        for operation in operations.values():
            if "operationId" in operation:
                assert f'id="{operation["operationId"]}"' in page
    assert not re.search(r"<script|<link|<img|<iframe|src=|@import|url\(", page)
    anchors = {f"#{name}" for name in re.findall(r' id="([^"]+)"', page)}
    components = document["components"]
    assert anchors >= {f"#{name}" for name in components["schemas"]} | {
        f"#error-{name}" for name in components["responses"]
    }
    assert set(re.findall(r'href="([^"]+)"', page)) - anchors == {"openapi.json"}


def test_event_is_stored_queued_and_shown_as_it_was_sent(api: Api) -> None:
    body = '{"event_type": "a", "payload": {"n": [1.50, 1e400]}, "metadata": {"b": 0.10}, "idempotency_key": "k"}'
    status, receipt = api.call("POST /events", body)
    assert (status, receipt["status"]) == (201, "pending")
    event = api.store.events[receipt["event_id"]]
    assert (event.owner, event.payload) == ("owner-1", '{"n":[1.50,1e400]}')
    assert receipt["created_at"] == event.created_at
    assert api.woken == [event.event_id]
    _, shown = api.call("GET /events", limit="1")
    assert shown["events"][0]["event_id"] == event.event_id


def test_numbers_of_a_payload_come_back_digit_by_digit(api: Api) -> None:
    api.call("POST /events", '{"event_type": "a", "payload": {"n": [1.50, 1e400]}, "metadata": {"b": 0.10}}')
    for path in (f"/events/{ID}", "/events", "/inbox"):
        event = {"rawPath": path, "requestContext": {"stage": "$default", "http": {"method": "GET", "path": path}}}
        event["requestContext"]["authorizer"] = {"lambda": {"owner": "owner-1"}}
        text = api.module.handler(event, api.context)["body"]
        assert '"payload":{"n":[1.50,1e400]},"metadata":{"b":0.10}' in text


def test_same_idempotency_key_again_is_the_first_event(api: Api) -> None:
    (first, receipt), (again, known) = api.post(idempotency_key="k"), api.post(idempotency_key="k", metadata=None)
    assert (first, again) == (201, 200)
    assert {**known, "message": ""} == {**receipt, "message": ""}
    assert len(api.store.events) == 1


def test_secret_of_the_ids_is_read_once_and_only_for_a_new_key(api: Api) -> None:
    api.post()
    api.call("GET /events")
    assert not api.secret.reads
    for key in ("k", "k", "l"):
        api.post(idempotency_key=key)
    assert api.secret.reads.total() == 1


def test_same_idempotency_key_with_another_payload_is_a_conflict(api: Api) -> None:
    api.post(idempotency_key="k")
    status, answer = api.post(idempotency_key="k", payload={"other": 1})
    assert (status, answer["error"]["code"]) == (409, "idempotency_key_reused")
    assert len(api.store.events) == 1


def test_optional_field_that_is_null_counts_as_absent(api: Api) -> None:
    ids = [api.post(metadata=None, idempotency_key=None)[1]["event_id"] for _ in range(2)]
    assert len(set(ids)) == 2, "null is no key"
    assert api.call(f"GET /events/{ids[0]}")[1]["metadata"] is None
    assert api.post(payload=None)[0] == 422, "a payload is not optional"


def test_event_is_stored_though_the_queue_does_not_answer(
    api: Api, log: Divert, capsys: pytest.CaptureFixture[str]
) -> None:
    output = log(api.module)
    api.queue.before["send_message"] = raising(ReadTimeoutError(endpoint_url=QUEUE_URL))
    assert api.post()[0] == 201
    warning, _ = lines(output.getvalue())
    assert (warning["level"], warning["reason"], warning["event_id"]) == ("WARNING", "ReadTimeoutError", ID)
    (metrics,) = lines(capsys.readouterr().out)
    assert (metrics["EventsPosted"], metrics["DeliveryNotWoken"]) == ([1.0], [1.0])


def test_event_is_shown_as_it_was_posted(api: Api, posted: str) -> None:
    status, event = api.call(f"GET /events/{posted}")
    assert status == 200
    assert event["payload"] == NEW["payload"]
    assert (event["metadata"], event["delivery_attempts"], event["delivered_at"]) == (None, 0, None)
    assert event["attempts"] == []
    assert "owner" not in event


def test_acknowledged_event_leaves_the_inbox_until_it_is_replayed(api: Api, posted: str) -> None:
    for _ in range(2):
        assert api.call(f"POST /events/{posted}/acknowledge") == (204, None)
        assert api.call(f"GET /events/{posted}")[1]["status"] == "acknowledged"
        assert api.call("GET /inbox")[1]["events"] == []
    status, receipt = api.call(f"POST /events/{posted}/replay")
    assert (status, receipt["event_id"], receipt["status"]) == (202, posted, "pending")
    assert len(api.call("GET /inbox")[1]["events"]) == 1
    assert api.woken == [posted] * 2
    assert api.call(f"DELETE /events/{posted}") == (204, None)
    assert api.call(f"DELETE /events/{posted}")[0] == 404


@pytest.mark.parametrize("route", OF_ONE_EVENT)
def test_event_of_somebody_else_is_like_none(api: Api, posted: str, route: str) -> None:
    before = dict(api.store.events)
    answers = [api.call(route.format(posted), owner="owner-2"), api.call(route.format("evt_zzzzzzzzzzzz"))]
    for unusable in ("x", "evt_", "EVT_0123456789ab", "é", "evt_0123456789ab%0A", "x" * 5_000, "a b", "'"):
        answers.append(api.call(route.format(unusable)))
    assert {status for status, _ in answers} == {404}
    assert {json.dumps(answer) for status, answer in answers} == {json.dumps(answers[0][1])}
    assert api.store.events == before


def test_listing_goes_on_behind_a_cursor(api: Api) -> None:
    ids = [api.post()[1]["event_id"] for _ in range(5)]
    api.store.acknowledge("owner-1", ids[4], "2026-03-02T10:00:00.000Z")
    _, first = api.call("GET /inbox", limit="3")
    _, second = api.call("GET /inbox", limit="3", cursor=first["next_cursor"])
    assert [[event["event_id"] for event in page["events"]] for page in (first, second)] == [
        sorted(ids[:4], key=lambda event_id: api.store.events[event_id].position)[:3],
        sorted(ids[:4], key=lambda event_id: api.store.events[event_id].position)[3:],
    ]
    assert second["next_cursor"] is None
    for route, owner in (("GET /events", "owner-1"), ("GET /inbox", "owner-2")):
        status, answer = api.call(route, owner=owner, cursor=first["next_cursor"])
        assert (status, [fault["field"] for fault in answer["error"]["details"]]) == (422, ["cursor"])


def test_attempts_are_shown_as_the_delivery_noted_them(api: Api, posted: str) -> None:
    attempts = [{"time": "2026-03-02T10:00:00.000Z", "status": None, "milliseconds": 10001, "cause": "no answer"}]
    api.store.change(posted, attempts=json.dumps(attempts))
    assert api.call(f"GET /events/{posted}")[1]["attempts"] == attempts
    assert api.call("GET /events")[1]["events"][0]["attempts"] == attempts
