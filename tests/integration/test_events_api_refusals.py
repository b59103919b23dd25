"""What the deployed events API refuses, in which words, and that nobody sees or touches what is another owner's."""

import json
from typing import Any

import httpx
import pytest

from lambdas.events_api.api_keys import new_key
from lambdas.events_api.requests import MAX_BODY_BYTES
from tests.integration.deployed_api import eventually
from tests.integration.events import API_LOG, AUTHORIZER_LOG, NO_SUCH_EVENT, EventsApi, Owner, new_event

OF_ONE_EVENT = ("GET /events/{}", "POST /events/{}/acknowledge", "POST /events/{}/replay", "DELETE /events/{}")
GUARDED = ("POST /events", "GET /events", "GET /inbox", *(route.format(NO_SUCH_EVENT) for route in OF_ONE_EVENT))


@pytest.fixture
def owner(events_api: EventsApi) -> Owner:
    return events_api.owner()


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an answer that has the form of the API's errors."""
    error = answer.json()["error"]
    assert list(error) == ["code", "message", "details", "request_id"]
    assert error["request_id"]
    return answer.status_code, error["code"]


def without_id(answer: httpx.Response) -> dict[str, Any]:
    """An error without what is its own."""
    return {name: value for name, value in answer.json()["error"].items() if name != "request_id"}


@pytest.mark.parametrize("route", GUARDED)
def test_without_a_good_key_no_route_looks_at_anything(events_api: EventsApi, route: str) -> None:
    for body, params in ((json.dumps(new_event()).encode(), {}), (b"{", {"limit": "x"})):
        missing = events_api.call(route, body=body, params=params)
        assert refusal(missing) == (401, "unauthorized")
        assert missing.headers["www-authenticate"] == "Bearer"
        bad = events_api.call(route, headers={"X-API-Key": new_key()}, body=body, params=params)
        assert refusal(bad) == (403, "forbidden")


def test_key_that_has_used_up_its_limit_is_refused_and_another_is_not(events_api: EventsApi, owner: Owner) -> None:
    other = events_api.owner()
    with events_api.variables("events-api-authorizer", REQUESTS_A_MINUTE="3"):
        # More than three, as a minute may end between them.
        answers = [owner.call("GET /inbox") for _ in range(8)]
        assert answers[0].status_code == 200
        throttled = [answer for answer in answers if answer.status_code != 200]
        assert {refusal(answer) for answer in throttled} == {(429, "throttled")}
        assert throttled[0].headers["retry-after"] == "60"
        assert other.call("GET /inbox").status_code == 200
    assert owner.call("GET /inbox").status_code == 200, "under the limit as it was"


def test_bad_keys_are_refused_all_in_the_same_way(events_api: EventsApi, owner: Owner) -> None:
    key, other = owner.key, events_api.owner().key
    owner.post()
    forged = f"{key[:11]}{new_key()[11:]}"
    # A few of each kind, as they reach the function through the gateway; unit tests of the authorizer have all.
    bad: list[list[tuple[bytes, bytes]]] = [
        [(b"X-API-Key", value)]
        for value in (forged.encode(), f"{key},{other}".encode(), b"\xff\xfe", b"sk_" + b"a" * 8_000)
    ]
    bad.append([(b"Authorization", f"Basic {key}".encode())])
    bad.append([(b"X-API-Key", key.encode()), (b"Authorization", f"Bearer {other}".encode())])
    bad.append([(b"X-API-Key", forged.encode()), (b"Authorization", f"Bearer {key}".encode())])
    answers = [events_api.call("GET /events", headers=headers) for headers in bad]
    for headers, answer in zip(bad, answers, strict=True):
        assert refusal(answer) == (403, "forbidden"), headers
        assert "www-authenticate" not in answer.headers
    assert {json.dumps(without_id(answer)) for answer in answers} == {json.dumps(without_id(answers[0]))}
    assert events_api.call("GET /events", headers={"X-API-Key": key, "Authorization": f"bearer {key}"}).is_success


def test_key_that_cannot_be_checked_lets_nobody_in(events_api: EventsApi, owner: Owner) -> None:
    owner.post()
    with events_api.variables("events-api-authorizer", API_KEYS_TABLE="api-keys-missing"):
        answer = owner.call("GET /events")
        assert refusal(answer) == (503, "key_unchecked")
        assert answer.headers["retry-after"]
    eventually("keys can be checked again", lambda: owner.call("GET /events").status_code == 200)


@pytest.mark.parametrize("path", ["/", "/events/a/b", "/Events"])
def test_other_paths_are_not_there_with_or_without_a_key(events_api: EventsApi, owner: Owner, path: str) -> None:
    for headers in ({}, {"X-API-Key": owner.key}):
        assert refusal(events_api.call(f"GET {path}", headers=headers)) == (404, "not_found")


@pytest.mark.parametrize(
    ("route", "allowed"),
    [
        ("POST /health", "GET, HEAD"),
        ("PUT /events", "GET, POST, HEAD"),
        (f"PATCH /events/{NO_SUCH_EVENT}", "GET, DELETE, HEAD"),
    ],
)
def test_other_methods_are_refused(events_api: EventsApi, route: str, allowed: str) -> None:
    answer = events_api.call(route)
    assert refusal(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


def test_head_needs_a_key_where_get_does_and_has_no_body(events_api: EventsApi, owner: Owner) -> None:
    for path, needs_key in (("/health", False), ("/events", True), (f"/events/{owner.post()}", True), ("/inbox", True)):
        answers = events_api.call(f"HEAD {path}"), owner.call(f"HEAD {path}")
        assert [answer.status_code for answer in answers] == [401 if needs_key else 200, 200], path
        assert not any(answer.content for answer in answers)


def test_owners_neither_see_nor_touch_each_other_s_events(events_api: EventsApi, owner: Owner) -> None:
    stranger = events_api.owner()
    ids = [owner.post(idempotency_key=f"k{number}", payload={"of": owner.name}) for number in range(3)]
    assert owner.call(f"POST /events/{ids[0]}/acknowledge").status_code == 204
    before = [events_api.stored(event_id) for event_id in ids]
    for event_id in ids:
        for route in OF_ONE_EVENT:
            answer = stranger.call(route.format(event_id))
            assert refusal(answer) == (404, "no_such_event")
            assert without_id(answer) == without_id(stranger.call(route.format(NO_SUCH_EVENT)))
    for path, params in (("/events", {}), ("/events", {"status": "acknowledged"}), ("/inbox", {})):
        assert stranger.page(path, **params) == ([], None)
        _, cursor = owner.page(path, limit=1, **params)
        if cursor is not None:
            assert refusal(stranger.call(f"GET {path}", cursor=cursor, **params)) == (422, "invalid_request")
    own = stranger.post(idempotency_key="k1")
    assert own not in ids
    assert stranger.page("/events") == ([own], None)
    assert [events_api.stored(event_id) for event_id in ids] == before


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"[" * 100_000 + b"]" * 100_000, 400, "not_json"),
        (json.dumps(new_event()).encode().ljust(MAX_BODY_BYTES + 1), 413, "too_large"),
        (json.dumps(new_event()).encode().ljust(5_000_000), 413, "too_large"),
        (json.dumps(new_event(owner="somebody")).encode(), 422, "invalid_request"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_body_that_cannot_be_stores_nothing(
    events_api: EventsApi, owner: Owner, body: bytes, status: int, code: str
) -> None:
    assert refusal(owner.call("POST /events", body=body)) == (status, code)
    assert events_api.stored_of(owner.name) == []


def test_neither_keys_nor_what_is_posted_is_logged(events_api: EventsApi, owner: Owner) -> None:
    planted, forged = "planted-secret", new_key()
    answers = [
        owner.call("POST /events", body=new_event(payload={planted: planted}, metadata={planted: planted})),
        owner.call("POST /events", body=new_event(**{planted: planted})),
        owner.call("POST /events", body=f"{planted}{{".encode()),
        owner.call("GET /events", cursor=planted, **{planted: planted}),
        owner.call(f"GET /events/{planted}"),
        events_api.call("GET /events", headers={"X-API-Key": forged}),
        events_api.call("GET /events", headers={"Authorization": f"Bearer {planted}"}),
    ]
    assert [answer.status_code for answer in answers] == [201, 422, 400, 422, 404, 403, 403]

    def logged() -> bool:
        # The emulator may take a line only with the next call's.
        owner.call("GET /inbox")
        return all(sum(owner.name in line for line in events_api.log(group)) > 5 for group in (API_LOG, AUTHORIZER_LOG))

    eventually("the calls are logged", logged)
    for group in (API_LOG, AUTHORIZER_LOG):
        log = "\n".join(events_api.log(group))
        for secret in (planted, owner.key[11:], forged[11:]):
            assert secret not in log
