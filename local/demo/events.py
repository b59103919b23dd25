"""The events API's part of the demo: events are posted, and delivered to receivers of which not all are well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx

from local.clients import AirflowApi, active_runs, pause_when_idle, receive_alerts, slack_messages
from local.demo.part import Part, get_json, queue_messages, rules, run_tool, shown, wait_until
from local.partners.app import ARRIVALS_PATH, SECRETS_PATH
from local.partners.receivers import PATH
from local.stack.description import Stack

DAG_ID = "event_delivery"
STEADY, FLAKY, DOWN, READER = "demo-steady", "demo-flaky", "demo-down", "demo-reader"
"""Owners of events. Three have a webhook of the same name; the last fetches its events from the inbox."""

FAILURES = 3
MOST_ATTEMPTS = FAILURES + 1
"""How often an event is posted here. By default it is eleven times, which takes some twenty minutes."""

RULES: tuple[dict[str, Any], ...] = (
    {"path": f"{PATH}/{FLAKY}", "count": FAILURES, "status": 503},
    {"path": f"{PATH}/{DOWN}", "status": 500},
)
DIGITS = "12345678901234567890.0000000001"
"""A number that no float holds."""

FIRST = (
    f'{{"event_type": "order.created", "payload": {{"order": "D-1", "amount": {DIGITS}, "note": "żółw <&>"}}, '
    '"metadata": {"source": "demo"}, "idempotency_key": "demo-order-1"}'
)
POSTS = (
    (STEADY, FIRST),
    (FLAKY, '{"event_type": "invoice.sent", "payload": {"invoice": 1}}'),
    (FLAKY, '{"event_type": "invoice.paid", "payload": {"invoice": 1}}'),
    (DOWN, '{"event_type": "meter.read", "payload": {"meter": "M-7", "kwh": 1204.50}}'),
    (STEADY, '{"event_type": "order.paid", "payload": {"order": "D-1"}}'),
    (READER, '{"event_type": "report.ready", "payload": {"report": 1}}'),
    (READER, '{"event_type": "report.ready", "payload": {"report": 2}}'),
)
EXPLANATION = (
    "An event is stored before it is answered; the queue wakes the delivery, which posts each owner's events in their "
    f"order, signed with the owner's secret. {FLAKY} fails {FAILURES} times on purpose, and its next event waits for "
    f"that; {DOWN} never accepts, so its event ends in the dead letters with one alert, after {MOST_ATTEMPTS} attempts "
    f"instead of the usual 11; {READER} has no webhook and fetches its events itself."
)


def run_events(stack: Stack, part: Part) -> None:
    """Make keys and subscriptions, post events, and see them delivered, repeated, given up, or fetched."""
    with (
        AirflowApi(stack) as airflow,
        httpx.Client(base_url=stack.partners_url, timeout=30) as partners,
        httpx.Client(base_url=stack.events_api_url, timeout=30) as api,
        _settings(stack, max_delivery_attempts=MOST_ATTEMPTS),
        rules(partners, *RULES),
    ):
        # The queue is listened to some seconds after this: the keys are made meanwhile.
        airflow.unpause(DAG_ID)
        here = ("--environment", stack.environment)
        keys = {
            owner: run_tool(stack, "api_keys", "create", "--owner", owner, *here)
            for owner in (STEADY, FLAKY, DOWN, READER)
        }
        secrets = {
            owner: run_tool(
                *(stack, "subscriptions", "put", "--owner", owner, "--allow-http", *here),
                *("--url", f"{stack.partners_url}{PATH}/{owner}"),
            )
            for owner in (STEADY, FLAKY, DOWN)
        }
        partners.put(SECRETS_PATH, json=secrets).raise_for_status()

        def call(owner: str | None, method: str, path: str, body: str | None = None) -> httpx.Response:
            headers = {"Authorization": f"Bearer {keys.get(owner, owner)}"} if owner else {}
            return api.request(method, path, content=body, headers=headers)

        def event(owner: str, event_id: str) -> dict[str, Any]:
            found: dict[str, Any] = call(owner, "GET", f"/events/{event_id}").json()
            return found

        posts = [call(owner, "POST", "/events", body) for owner, body in POSTS]
        ids: dict[str, list[str]] = {}
        for (owner, _), post in zip(POSTS, posts, strict=True):
            ids.setdefault(owner, []).append(post.json()["event_id"])
        again = call(STEADY, "POST", "/events", FIRST)
        inbox = [each["event_id"] for each in call(READER, "GET", "/inbox").json()["events"]]
        acknowledged = [call(READER, "POST", f"/events/{ids[READER][0]}/acknowledge").status_code for _ in range(2)]
        left = [each["event_id"] for each in call(READER, "GET", "/inbox").json()["events"]]
        refusals = {
            "no key": (call(None, "POST", "/events", FIRST), 401),
            "a key that somebody made up": (call(f"sk_{'0' * 32}", "POST", "/events", FIRST), 403),
            "an event type with capitals": (call(STEADY, "POST", "/events", FIRST.replace("order.c", "Order C")), 422),
            "the event of another owner": (call(READER, "GET", f"/events/{ids[STEADY][0]}"), 404),
        }

        def settled() -> bool:
            """Whether all is delivered or failed. What is due while no run is active would wait for the next minute."""
            found = [event(owner, event_id) for owner in secrets for event_id in ids[owner]]
            pending = [each for each in found if each["status"] == "pending"]
            if any(map(_is_due_again, pending)) and not active_runs(airflow, DAG_ID):
                airflow.trigger(DAG_ID)
            return not pending and any(run["run_type"] == "asset_triggered" for run in airflow.runs(DAG_ID))

        wait_until(settled, "all events delivered or failed, by a run that the queue started")
        pause_when_idle(airflow, DAG_ID)
        arrivals = get_json(partners, ARRIVALS_PATH)["arrivals"]
        ends = {
            event_id: (found["status"], found["delivery_attempts"])
            for owner, of_owner in ids.items()
            for event_id in of_owner
            for found in [event(owner, event_id)]
        }
        first_text = call(STEADY, "GET", f"/events/{ids[STEADY][0]}").text
        runs = airflow.runs(DAG_ID)
    letters = queue_messages(stack, stack.event_dlq_url)
    at = {owner: [each for each in arrivals if each["receiver"] == owner] for owner in ids}
    got = {owner: [(each["webhook_id"], each["accepted"]) for each in at[owner]] for owner in ids}
    pauses = [after["at"] - before["at"] for before, after in pairwise(at[FLAKY][:MOST_ATTEMPTS])]
    (first, behind), (given_up,) = ids[FLAKY], ids[DOWN]
    part.what = ", ".join([f"POST {stack.events_api_url}/events", *(run["dag_run_id"] for run in runs)])
    part.result = "events: " + ", ".join(
        f"{[end for end, _ in ends.values()].count(status)} {status}{' as meant' * (status == 'failed')}"
        for status in ("delivered", "failed", "acknowledged", "pending")
    )
    part.written = [f"dynamodb:{stack.events_table}/{event_id}" for event_id in ends]
    part.exhibits = {
        "the response to a new event": shown(posts[0]),
        "what reached the receivers": "\n".join(_line(each, arrivals[0]["at"]) for each in arrivals),
        "the dead letter's message in the queue": json.dumps(letters, indent=2),
    }
    part.checks = {
        "each event was taken with a 201; the one that was posted twice under its idempotency key with a 200 then, and "
        "the same id": {post.status_code for post in posts} == {201}
        and len(ends) == len(posts)
        and (again.status_code, again.json()["event_id"]) == (200, ids[STEADY][0]),
        "read back, its number has every digit": DIGITS in first_text,
        **{f"{wrong}: {status}": response.status_code == status for wrong, (response, status) in refusals.items()},
        "every post was signed with the secret of its subscription, as Standard Webhooks has it": all(
            each["verified"] is True for each in arrivals
        ),
        f"{STEADY} got its events once each, in the order in which they were posted": got[STEADY]
        == [(event_id, True) for event_id in ids[STEADY]],
        f"{FLAKY} got its first event {MOST_ATTEMPTS} times under one id, accepted the last, then got the next": (
            got[FLAKY] == [(first, False)] * FAILURES + [(first, True), (behind, True)]
        ),
        # Times in the table are as exact as a millisecond.
        "the pauses between these were at least a second, then two, then four": len(pauses) == FAILURES
        and all(pause > 2.0**number - 0.001 for number, pause in enumerate(pauses)),
        f"{STEADY} did not wait for it and had all of its events by then": at[STEADY][-1]["at"]
        < at[FLAKY][FAILURES]["at"],
        f"{DOWN} got its event {MOST_ATTEMPTS} times and accepted none; the event is failed": got[DOWN]
        == [(given_up, False)] * MOST_ATTEMPTS
        and ends[given_up] == ("failed", MOST_ATTEMPTS),
        "the dead letters hold one message, which names the event and its last status": [
            (letter["event_id"], letter["last_status"]) for letter in letters
        ]
        == [(given_up, 500)],
        f"the inbox of {READER} had both of its events, the oldest first; none was posted anywhere": inbox
        == ids[READER]
        and not at[READER],
        "acknowledging that one was answered 204, twice; it left the inbox, and the other is pending": (
            acknowledged == [204, 204] and left == ids[READER][1:] and ends[left[0]] == ("pending", 0)
        ),
        "every run succeeded": {run["state"] for run in runs} == {"success"},
    }
    about = f"pipeline {DAG_ID}"
    alerts = receive_alerts(stack, containing=about, expected=1)
    part.check_alerts(alerts, slack_messages(stack, containing=about), given_up)


def _is_due_again(event: dict[str, Any]) -> bool:
    """Whether a pending event was posted, was not accepted, and may be posted again."""
    return event["delivery_attempts"] > 0 and datetime.fromisoformat(event["next_attempt_at"]) <= datetime.now(UTC)


def _line(arrival: dict[str, Any], began: float) -> str:
    verified = "signature verified" if arrival["verified"] else "NOT VERIFIED"
    taken = "accepted" if arrival["accepted"] else "refused"
    return f"+{arrival['at'] - began:6.2f} s  {arrival['receiver']:<12}  {arrival['webhook_id']}  {verified}, {taken}"


@contextmanager
def _settings(stack: Stack, **changes: Any) -> Iterator[None]:
    """Change settings, as an operator does, until the block ends."""
    secrets = stack.aws("secretsmanager")
    before = secrets.get_secret_value(SecretId=stack.settings_variable)["SecretString"]
    changed = json.dumps({**json.loads(before), **changes})
    secrets.put_secret_value(SecretId=stack.settings_variable, SecretString=changed)
    try:
        yield
    finally:
        secrets.put_secret_value(SecretId=stack.settings_variable, SecretString=before)
