"""What the stub of one partner consists of: endpoints that turn a call into an answer.

A stub knows nothing of faults, latency or the journal; `app` adds these to every endpoint alike, so a new
partner is one module with a class that satisfies `Partner`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Call:
    """One call as a stub sees it: `query` holds only the values that the endpoint declares."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, and what the journal may say about the call.

    `authorized` tells whether the caller showed valid credentials, `client_id` whom the call was about,
    `message` the text that the partner received. None of them may hold a secret or a token. `effect` is what
    the partner does if it takes what it was sent; a fault may keep it from that.
    """

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    authorized: bool = True
    client_id: str | None = None
    message: str | None = None
    effect: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing that a partner answers.

    `path` is exact, or the start of the path if `tail` is true; the rest may be a secret (Slack's webhook
    tokens are), so journal and counters show `path` only. `parameters` names the query or form values that
    rules may match and the journal may show: a secret is never among them. `headers` names, by lower-case header,
    those of them that are sent as a header.
    """

    method: str
    path: str
    parameters: frozenset[str]
    answer: Callable[[Call], Answer]
    tail: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def serves(self, path: str) -> bool:
        """Tell whether a call to `path` is this endpoint's."""
        return path == self.path or (self.tail and path.startswith(f"{self.path}/"))


class Partner(Protocol):
    """The stub of one partner."""

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return what the partner answers."""

    def expire_tokens(self) -> None:
        """Make every token issued so far invalid; a partner without tokens does nothing."""


def json_answer(status: int, content: Any, **details: Any) -> Answer:
    """Return `content` as a compact JSON answer; `details` are further fields of `Answer`."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status, body, **details)


def error_answer(status: int, message: str, **details: Any) -> Answer:
    """Return the JSON error `{"error": <reason phrase>, "message": message}`."""
    return json_answer(status, {"error": reason(status), "message": message}, **details)


def reason(status: int) -> str:
    """Return the reason phrase of an HTTP status, or "Status <n>" for one that has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def under(path: str, start: str) -> bool:
    """Tell whether `path` is `start` or lies below it; whole segments count, so /a/bc is not below /a/b."""
    start = start.rstrip("/")
    return path.rstrip("/") == start or path.startswith(f"{start}/")
