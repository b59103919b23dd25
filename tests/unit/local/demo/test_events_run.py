"""The events API's part of the demo: what it says to the API, and how long it waits for the delivery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import pytest

from lambdas.events_api.api_keys import is_key, is_owner
from lambdas.events_api.errors import InvalidRequestError
from lambdas.events_api.requests import read_new_event
from local.clients.airflow import AirflowApi
from local.demo.events import (
    BROKEN,
    DAG_ID,
    DOWN,
    FLAKY,
    MADE_UP_KEY,
    POSTS,
    READER,
    REPEATED,
    STEADY,
    Callers,
    pause_when_idle,
    wait_until_settled,
)


def test_what_is_posted_is_sound_but_for_what_is_meant_to_be_refused() -> None:
    for post in POSTS:
        assert is_owner(post.owner)
        assert read_new_event({"body": post.body}).idempotency_key == ("demo-order-1" if post is REPEATED else None)
    with pytest.raises(InvalidRequestError) as refused:
        read_new_event({"body": BROKEN})
    assert [fault.field for fault in refused.value.faults] == ["event_type"]
    assert is_key(MADE_UP_KEY)


def test_everybody_comes_with_the_right_key() -> None:
    seen: list[tuple[str, str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.headers.get("Authorization", ""), request.method, request.url.path))
        return httpx.Response(201, json={"event_id": f"evt_{len(seen)}"})

    keys = {owner: f"key of {owner}" for owner in (STEADY, FLAKY, DOWN, READER)}
    with httpx.Client(base_url="http://api/%24default", transport=httpx.MockTransport(answer)) as api:
        said = Callers(api, keys).say_all()
    posts = [(f"Bearer key of {post.owner}", "POST", "/$default/events") for post in (*POSTS, REPEATED)]
    assert seen[: len(posts)] == posts
    reader = f"Bearer key of {READER}"
    acknowledged = f"/$default/events/{said.ids(READER)[0]}/acknowledge"
    assert seen[len(posts) :] == [
        (reader, "GET", "/$default/inbox"),
        (reader, "POST", acknowledged),
        (reader, "POST", acknowledged),
        ("", "POST", "/$default/events"),
        (f"Bearer {MADE_UP_KEY}", "POST", "/$default/events"),
        (f"Bearer key of {STEADY}", "POST", "/$default/events"),
        (reader, "GET", f"/$default/events/{said.ids(STEADY)[0]}"),
        (reader, "GET", "/$default/inbox"),
    ]


class Airflow:
    """Its runs are those of the poll that it is at; the last poll's stay."""

    def __init__(self, *polls: dict[str, str]) -> None:
        self._polls = list(polls)
        self.done: list[str] = []

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        assert dag_id == DAG_ID
        now = self._polls.pop(0) if len(self._polls) > 1 else self._polls[0]
        return [{"dag_run_id": run, "run_type": run.partition("__")[0], "state": state} for run, state in now.items()]

    def trigger(self, _: str) -> str:
        self.done.append("trigger")
        return "manual__1"

    def unpause(self, _: str, *, paused: bool = False) -> None:
        self.done.append("pause" if paused else "unpause")


WOKEN = {"asset_triggered__1": "success"}


def _pending(attempts: int, due_in: float) -> list[dict[str, Any]]:
    at = datetime.now(UTC) + timedelta(seconds=due_in)
    return [{"status": "pending", "delivery_attempts": attempts, "next_attempt_at": at.isoformat()}]


@pytest.mark.parametrize(
    ("airflow", "before", "triggered"),
    [
        (Airflow(WOKEN), _pending(3, -1.0), ["trigger"]),
        (Airflow(WOKEN), _pending(3, 3600.0), []),
        (Airflow(WOKEN), _pending(0, -1.0), []),
        (Airflow({**WOKEN, "scheduled__1": "queued"}), _pending(3, -1.0), []),
        (Airflow({}, WOKEN), [{"status": "delivered"}], []),
    ],
    ids=["due again", "due later", "never posted yet", "a run is under way", "not woken yet"],
)
def test_a_run_is_started_by_hand_only_for_what_would_wait_for_the_next_minute(
    airflow: Airflow, before: list[dict[str, Any]], triggered: list[str]
) -> None:
    seen = [before, [{"status": "delivered"}, {"status": "failed"}]]
    wait_until_settled(cast(AirflowApi, airflow), lambda: seen.pop(0) if len(seen) > 1 else seen[0], poll=0.0)
    assert airflow.done == triggered


def test_the_delivery_is_paused_when_it_has_no_run() -> None:
    running = {"scheduled__1": "running"}
    airflow = Airflow(running, WOKEN, running, running, WOKEN)
    pause_when_idle(cast(AirflowApi, airflow), poll=0.0)
    assert airflow.done == ["pause", "unpause", "pause"]
