"""Who takes part in the events API's part of the demo, and what they say to the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from local.demo_kit import json_of, run_tool
from local.partners.receivers import PATH
from local.stack import Stack

STEADY, FLAKY, DOWN, READER = "demo-steady", "demo-flaky", "demo-down", "demo-reader"
"""Owners of events. Three have a webhook of the same name; the last fetches its events from the inbox."""

FAILURES = 3
MOST_ATTEMPTS = FAILURES + 1
"""How often an event is posted here. By default it is eleven times, which takes some twenty minutes."""

RULES: tuple[dict[str, Any], ...] = (
    {"path": f"{PATH}/{FLAKY}", "count": FAILURES, "status": httpx.codes.SERVICE_UNAVAILABLE},
    {"path": f"{PATH}/{DOWN}", "status": httpx.codes.INTERNAL_SERVER_ERROR},
)

DIGITS = "12345678901234567890.0000000001"
"""A number that no float holds."""


@dataclass(frozen=True)
class Post:
    """An event to be posted.

    Args:
        body: JSON text.
    """

    owner: str
    body: str


POSTS = (
    Post(
        STEADY,
        f'{{"event_type": "order.created", "payload": {{"order": "D-1", "amount": {DIGITS}, "note": "żółw <&>"}}, '
        '"metadata": {"source": "demo"}, "idempotency_key": "demo-order-1"}',
    ),
    Post(FLAKY, '{"event_type": "invoice.sent", "payload": {"invoice": 1}}'),
    Post(FLAKY, '{"event_type": "invoice.paid", "payload": {"invoice": 1}}'),
    Post(DOWN, '{"event_type": "meter.read", "payload": {"meter": "M-7", "kwh": 1204.50}}'),
    Post(STEADY, '{"event_type": "order.paid", "payload": {"order": "D-1"}}'),
    Post(STEADY, '{"event_type": "order.shipped", "payload": {"order": "D-1"}}'),
    Post(READER, '{"event_type": "report.ready", "payload": {"report": 1}}'),
    Post(READER, '{"event_type": "report.ready", "payload": {"report": 2}}'),
)
REPEATED = POSTS[0]
"""Posted twice: it has an idempotency key."""

BROKEN = '{"event_type": "Order Created", "payload": {"order": "D-1"}}'
MADE_UP_KEY = f"sk_{'0' * 32}"


@dataclass(frozen=True)
class Said:
    """What the API answered.

    Args:
        posts: to each of :data:`POSTS`.
        again: to :data:`REPEATED`, the second time.
        inboxes: the reader's inbox before and after it acknowledged the oldest event.
        acknowledged: to that, and to the same once more.
        refusals: to requests that are in vain, by what is wrong with them.
    """

    posts: tuple[httpx.Response, ...]
    again: httpx.Response
    inboxes: tuple[httpx.Response, httpx.Response]
    acknowledged: tuple[httpx.Response, httpx.Response]
    refusals: Mapping[str, httpx.Response]

    def ids(self, owner: str) -> list[str]:
        """The ids of an owner's events, in the order in which they were posted."""
        return [id_of(answer) for post, answer in zip(POSTS, self.posts, strict=True) if post.owner == owner]


class Callers:
    """The owners, each with its key.

    Args:
        api: a client of the events API.
        keys: by owner.
    """

    def __init__(self, api: httpx.Client, keys: Mapping[str, str]) -> None:
        self._api = api
        self._keys = keys

    def ask(self, owner: str, method: str, path: str, body: str | None = None) -> httpx.Response:
        """One request with the owner's key."""
        return self._send(self._keys[owner], method, path, body)

    def say_all(self) -> Said:
        """Post all events, read and acknowledge those of the reader, and try what nobody may."""
        posts = tuple(self.ask(post.owner, "POST", "/events", post.body) for post in POSTS)
        again = self.ask(REPEATED.owner, "POST", "/events", REPEATED.body)
        before = self.ask(READER, "GET", "/inbox")
        oldest = id_of(posts[[post.owner for post in POSTS].index(READER)])
        first, second = (self.ask(READER, "POST", f"/events/{oldest}/acknowledge") for _ in range(2))
        refusals = {
            "no key": self._send(None, "POST", "/events", REPEATED.body),
            "a key that somebody made up": self._send(MADE_UP_KEY, "POST", "/events", REPEATED.body),
            "an event type with capitals": self.ask(STEADY, "POST", "/events", BROKEN),
            "the event of another owner": self.ask(READER, "GET", f"/events/{id_of(posts[0])}"),
        }
        return Said(posts, again, (before, self.ask(READER, "GET", "/inbox")), (first, second), refusals)

    def _send(self, key: str | None, method: str, path: str, body: str | None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return self._api.request(method, path, content=body, headers=headers)


def make_key(stack: Stack, owner: str) -> str:
    """A key as a person makes it.

    Raises:
        StackError: the tool failed.
    """
    return run_tool(stack, "api_keys", "create", "--owner", owner, "--environment", stack.environment)


def subscribe(stack: Stack, owner: str) -> str:
    """Have an owner's events delivered to the receiver of its name, as a person does; returns the secret.

    Raises:
        StackError: the tool failed.
    """
    url = f"{stack.partners_url}{PATH}/{owner}"
    arguments = ("--owner", owner, "--url", url, "--allow-http", "--environment", stack.environment)
    return run_tool(stack, "subscriptions", "put", *arguments)


def id_of(answer: httpx.Response) -> str:
    """The id of the event that was posted, empty if none was: the checks then say so."""
    return str(json_of(answer).get("event_id", ""))
