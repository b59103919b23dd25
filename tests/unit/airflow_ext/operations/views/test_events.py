"""Events: owners, an owner's events, replay, webhooks."""

import base64
import json

import pytest

from airflow_ext.operations.reading import MOST_CALLS
from airflow_ext.outside import outside
from include.delivery.models import timestamp
from lambdas.events_api.models import is_event_id
from tests.worlds.dynamodb import event_item
from tests.worlds.operations import NOW, OperationsPage
from tests.worlds.s3 import raising, unreachable

ATTEMPTS = [{"time": "2026-03-08T00:00:00.000Z", "status": 503, "milliseconds": 12, "cause": "503"}]
FAILED = {
    "status": "failed",
    "next_attempt_at": None,
    "last_status": 503,
    "last_error": "answered 503",
    "first_failed_at": "2026-03-07T00:00:00.000Z",
    "failed_at": "2026-03-08T00:00:00.000Z",
    "delivery_attempts": 11,
    "attempts": json.dumps(ATTEMPTS),
}


def post(page: OperationsPage, path: str, user: str = "operator", **body: object) -> dict[str, object]:
    answer = page.ask(path, user=user, method="POST", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_owners_have_what_waits_and_what_failed(page: OperationsPage) -> None:
    tables = page.tables.events
    tables.subscribe("acme")
    tables.subscribe("off", active=False)
    tables.add(*(event_item(number, created=NOW - 600 + number, last_error="<b>") for number in range(3)))
    tables.add(event_item(9, created=NOW - 900, **FAILED))
    tables.subscribe("down")
    tables.add(event_item(10, "down", created=NOW - 900, **FAILED), event_item(11, "down", created=NOW))
    found = page.get("/events/owners")
    acme, off, down = found["rows"]
    assert (acme["last_status"], acme["last_error"]) == (None, "<b>")
    assert (down["pending"], down["last_status"], down["last_error"]) == (1, "503", "answered 503")
    assert (acme["owner"], acme["active"], acme["pending"], acme["failed"]) == ("acme", True, 3, 1)
    assert acme["oldest"]["event_id"] == "evt_000000000000"
    assert (off["owner"], off["active"], off["pending"], off["oldest"]) == ("off", False, 0, None)
    assert "whsec" not in json.dumps(found)


def test_thousand_owners_come_25_at_a_time_within_the_calls(page: OperationsPage) -> None:
    for number in range(30):
        page.tables.events.subscribe(f"owner {number:02d}")
        page.tables.events.add(event_item(number, f"owner {number:02d}", created=NOW))
    first = page.ask("/events/owners")
    assert len(first.json()["rows"]) == 25
    assert int(first.headers["x-aws-calls"]) <= MOST_CALLS
    rest = page.get(f"/events/owners?cursor={first.json()['next']}")
    assert (len(rest["rows"]), rest["next"]) == (5, None)


@pytest.mark.parametrize("text", ["no base64", "", "zzz", "[" * 1200, "12345"])
def test_cursor_of_another_list_is_refused(page: OperationsPage, text: str) -> None:
    page.tables.events.add(event_item(1, created=NOW))
    cursor = base64.urlsafe_b64encode(text.encode()).decode() if text != "no base64" else text
    assert page.ask("/events/owner", params={"owner": "acme", "cursor": cursor or "="}).status_code == 422
    assert page.ask("/events/owners", params={"cursor": "Zg"}).status_code == 422


def test_many_events_are_counted_up_to_a_thousand(page: OperationsPage) -> None:
    page.tables.events.subscribe("acme")
    page.tables.events.page_size = 5000
    page.tables.events.add(*(event_item(number, created=NOW + number) for number in range(1500)))
    assert page.get("/events/owners")["rows"][0]["pending"] == "1,000+"


def test_events_of_an_owner_come_with_their_attempts_and_without_payload(page: OperationsPage) -> None:
    page.tables.events.add(event_item(1, created=NOW, **FAILED, payload='{"secret": 1}'))
    answer = page.ask("/events/owner?owner=acme&status=failed", user="viewer")
    assert "secret" not in answer.text
    found = answer.json()
    assert found["rows"][0]["attempts"] == ATTEMPTS
    assert (found["rows"][0]["last_status"], found["rows"][0]["last_error"]) == ("503", "answered 503")
    assert (found["counts"]["failed"], found["counts"]["pending"], found["webhook"]) == (1, 0, None)


def test_failed_event_is_pending_again_after_a_replay(page: OperationsPage) -> None:
    page.tables.events.add(event_item(1, created=NOW, **FAILED))
    assert post(page, "/events/replay", owner="acme", event_id="evt_000000000001")["replayed"] == 1
    event = page.tables.events.plain(1)
    assert (event["status"], event["owner_status"], event["delivery_attempts"]) == ("pending", "acme#pending", 0)
    assert event["version"] == 2
    assert {"last_error", "last_status", "failed_at"} & set(event) == set()


@pytest.mark.parametrize(
    ("owner", "event_id", "status"),
    [("acme", "evt_000000000001", 409), ("other", "evt_000000000001", 404), ("acme", "lane#acme", 404)],
)
def test_only_a_failed_event_of_that_owner_is_replayed(
    page: OperationsPage, owner: str, event_id: str, status: int
) -> None:
    page.tables.events.add(event_item(1, created=NOW))
    page.tables.events.add_lane("acme", 1, created=NOW)
    body = {"owner": owner, "event_id": event_id}
    assert page.ask("/events/replay", method="POST", json=body).status_code == status
    assert page.tables.events.plain(1)["version"] == 1


def test_failed_events_are_counted_before_they_are_replayed(page: OperationsPage) -> None:
    page.tables.events.add(*(event_item(number, created=NOW + number, **FAILED) for number in range(60)))
    since = "2026-03-07T23:00:00Z"
    assert page.get(f"/events/failed?owner=acme&since={since}")["count"] == 60
    assert page.get("/events/failed?owner=acme&since=2026-03-08T01:00:00Z")["count"] == 0
    for none in ("2026-03-08T01:00:00", "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00"):
        assert page.ask(f"/events/failed?owner=acme&since={none}").status_code == 422
    assert post(page, "/events/replay-failed", owner="acme", since=since)["replayed"] == 60
    assert set(page.tables.events.statuses()) == {"pending"}


def test_more_failed_events_than_one_click_replays_are_reported(page: OperationsPage) -> None:
    page.tables.events.page_size = 5000
    page.tables.events.add(*(event_item(number, created=NOW + number, **FAILED) for number in range(1001)))
    since = "2026-03-07T23:00:00Z"
    found = page.get(f"/events/failed?owner=acme&since={since}")
    assert (found["count"], found["more"]) == (1000, True)
    assert post(page, "/events/replay-failed", owner="acme", since=since)["replayed"] == 1000
    again = page.get(f"/events/failed?owner=acme&since={since}", headers={"Cache-Control": "no-cache"})
    assert (again["count"], again["more"]) == (1, False)


def test_replay_that_runs_out_of_time_or_of_luck_says_how_many_are_pending_again(page: OperationsPage) -> None:
    seconds, since = [0.0], "2026-03-07T23:00:00Z"

    def slow(operation: str) -> None:
        if operation == "batch_execute_statement":
            seconds[0] += 5.0

    def fail_once(operation: str) -> None:
        if operation == "batch_execute_statement" and page.tables.events.statuses().count("pending") == 50:
            raise unreachable()

    page.tables.events.add(*(event_item(number, created=NOW + number, **FAILED) for number in range(60)))
    page.tables.events.before = slow
    with outside.replaced(monotonic=lambda: seconds[0]):
        found = post(page, "/events/replay-failed", owner="acme", since=since)
    assert (found["replayed"], found["changed_meanwhile"], found["strips"]) == (25, 0, [])
    assert found["left_out"] == ["the rest of the events; count again"]
    page.tables.events.before = fail_once
    found = post(page, "/events/replay-failed", owner="acme", since=since)
    assert (found["replayed"], found["changed_meanwhile"], found["left_out"]) == (25, 0, [])
    assert found["strips"] == ["DynamoDB cannot be reached from Airflow's server (EndpointConnectionError)"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.com/services/T0/B0/s3cret", "https://hooks.example.com/…"),
        ("https://hooks.example.com:8443/?token=s3cret", "https://hooks.example.com:8443/…"),
        ("https://user:s3cret@hooks.example.com/", "https://hooks.example.com"),
        ("https://[s3cret", None),
    ],
)
def test_webhook_is_shown_without_what_may_be_its_secret(page: OperationsPage, url: str, shown: str | None) -> None:
    page.tables.events.subscribe("acme", url)
    for path in ("/events/owners", "/events/owner?owner=acme"):
        answer = page.ask(path, user="viewer")
        assert "s3cret" not in answer.text
        found = answer.json()
        assert (found.get("webhook") or found["rows"][0])["url"] == shown


def test_webhook_is_switched_off_and_on(page: OperationsPage) -> None:
    page.tables.events.subscribe("acme")
    assert post(page, "/events/webhook", owner="acme", active=False)["active"] is False
    assert page.get("/events/owner?owner=acme")["webhook"]["reason"] == "switched off by hand"
    assert post(page, "/events/webhook", owner="acme", active=True)["active"] is True
    assert page.tables.events.subscriptions["acme"]["active"] == {"BOOL": True}
    assert page.ask("/events/webhook", method="POST", json={"owner": "nobody", "active": True}).status_code == 404


def test_test_event_is_one_of_the_owner_s_that_is_due_at_once(page: OperationsPage) -> None:
    page.tables.events.subscribe("acme")
    made = str(post(page, "/events/test", owner="acme")["event_id"])
    assert is_event_id(made)
    event = page.tables.events.api.get("acme", made)
    assert (event.event_type, event.status, event.next_attempt_at) == ("webhook.test", "pending", timestamp(NOW))
    assert page.get("/events/owner?owner=acme")["rows"][0]["event_id"] == made
    assert post(page, "/events/test", owner="acme")["event_id"] != made


@pytest.mark.parametrize(("owner", "status"), [("off", 409), ("nobody", 404)])
def test_webhook_that_is_off_or_missing_gets_no_test_event(page: OperationsPage, owner: str, status: int) -> None:
    page.tables.events.subscribe("off", active=False)
    assert page.ask("/events/test", method="POST", json={"owner": owner}).status_code == status
    assert not page.tables.events.events


def test_test_event_whose_answer_got_lost_is_stored_once(page: OperationsPage) -> None:
    page.tables.events.subscribe("acme")
    stored = page.tables.events.table.put_item

    def lose_answer(**request: object) -> dict[str, object]:
        stored(**request)
        return stored(**request)

    page.tables.events.table.put_item = lose_answer
    assert post(page, "/events/test", owner="acme")["event_id"] in page.tables.events.events


def test_table_that_cannot_be_reached_is_a_strip(page: OperationsPage) -> None:
    page.tables.events.before = raising(unreachable())
    for path in ("/events/owners", "/events/owner?owner=acme", "/tonight"):
        assert page.get(path)["strips"]


def test_tonight_has_dead_letters_and_the_oldest_event_that_waits_for_a_webhook(page: OperationsPage) -> None:
    page.tables.events.subscribe("acme")
    page.tables.events.subscribe("off", active=False)
    page.tables.events.add(
        event_item(1, "acme", created=NOW - 60, next_attempt_at=timestamp(NOW + 5400)),
        event_item(2, "acme", created=NOW),
        event_item(4, "off", created=NOW - 86_400),
        # More than are looked at at once.
        *(event_item(number, "inbox", created=NOW - 86_400 + number) for number in range(100, 200)),
    )
    page.tables.events.add_lane("inbox", 1, created=NOW - 86_400)
    found = page.get("/tonight")
    assert found["dead_letters"] == {"batches": 0, "events": 0}
    assert found["oldest_due"] == {"owner": "acme", "due": timestamp(NOW - 60)}
    page.tables.events.subscribe("late")
    page.tables.events.add_lane("late", 1, created=NOW - 90)
    assert page.get("/tonight", headers={"Cache-Control": "no-cache"})["oldest_due"]["owner"] == "late"
