"""Calls: the endpoints of a stub, which turn a call into an answer, and the journal of what the stubs received.

A stub knows nothing of faults, latency or the journal; `app` adds these to every endpoint alike, so a new partner is
one module that gives its endpoints. The journal is cheap to write (a tuple and two counters); dictionaries
and texts are made when somebody reads.
"""

from __future__ import annotations

import hmac
import json
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope

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


class Tokens:
    """The tokens that a partner has issued, in memory; `clock` counts seconds for their expiry."""

    def __init__(self, realm: str, clock: Callable[[], float]) -> None:
        self._realm = realm
        self._clock = clock
        self._expiry: dict[str, float] = {}

    def add(self, token: str, lifetime: float) -> None:
        """Issue a token for so many seconds."""
        now = self._clock()
        self._expiry = {each: expiry for each, expiry in self._expiry.items() if expiry > now}
        self._expiry[token] = now + lifetime

    def expire(self) -> None:
        """Make every token issued so far invalid."""
        self._expiry.clear()

    def refusal(self, call: Call, **details: Any) -> Answer | None:
        """Return the answer to a call that does not show a valid token; `details` are further fields of `Answer`."""
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        # Only what was issued here and is not over is in the list, so there is no signature left to check.
        if scheme.lower() == "bearer" and self._expiry.get(token, float("-inf")) > self._clock():
            return None
        return error_answer(
            401,
            "the bearer token is missing, unknown or expired",
            headers=(("www-authenticate", f'Bearer realm="{self._realm}", error="invalid_token"'),),
            authorized=False,
            **details,
        )


def json_answer(status: int, content: Any, **details: Any) -> Answer:
    """Return `content` as a compact JSON answer; `details` are further fields of `Answer`."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status, body, **details)


def error_answer(status: int, message: str, **details: Any) -> Answer:
    """Return the JSON error `{"error": <reason phrase>, "message": message}`."""
    return json_answer(status, {"error": reason(status), "message": message}, **details)


def same_secret(shown: object, known: str) -> bool:
    """Tell whether a secret that a caller showed is the known one."""
    return isinstance(shown, str) and hmac.compare_digest(shown.encode(errors="replace"), known.encode())


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


CAPACITY = 200_000
DEFAULT_LIMIT = 1000


class Entry(NamedTuple):
    """Call number `n`; `at` in seconds since the epoch, `status` None if none was sent, `rule` the rule's index."""

    at: float
    method: str
    path: str
    query: Mapping[str, str]
    status: int | None
    end: str
    duration_ms: float
    authorized: bool
    rule: int | None = None
    client_id: str | None = None
    body: str | None = None
    n: int = 0


class Journal:
    """The calls of one server, oldest dropped first."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._entries: deque[Entry] = deque(maxlen=capacity)
        self._counts: Counter[tuple[str, str]] = Counter()
        # Calls in progress by path, and the most there were at once.
        self._now: Counter[str] = Counter()
        self._most: dict[str, int] = {}
        self._last = 0

    def enter(self, path: str) -> None:
        """Note that a call to `path` has begun."""
        self._now[path] += 1
        self._most[path] = max(self._most.get(path, 0), self._now[path])

    def leave(self, path: str) -> None:
        """Note that a call to `path` has ended, in whatever way."""
        self._now[path] -= 1

    def record(self, entry: Entry) -> None:
        """Keep one call, counted under its status or, if it was not answered in full, under `end`."""
        self._last += 1
        self._entries.append(entry._replace(n=self._last))
        self._counts[entry.path, str(entry.status) if entry.end == "answered" else entry.end] += 1

    def clear(self) -> None:
        """Forget calls and counters; numbering goes on, calls in progress stay counted as such."""
        self._entries.clear()
        self._counts.clear()
        self._most = dict(self._now)

    def read(self, *, path: str = "/", since: int = 0, limit: int = DEFAULT_LIMIT) -> dict[str, Any]:
        """Return the newest `limit` calls at or below `path` numbered above `since`, oldest first.

        `matched` tells how many there are without the limit, `last` the number of the newest call of all.
        Counters and concurrency cover all calls since the last `clear`, whatever the filter.
        """
        found = [entry for entry in self._entries if entry.n > since and under(entry.path, path)]
        counts: dict[str, dict[str, int]] = {}
        for (counted, key), number in sorted(self._counts.items()):
            counts.setdefault(counted, {})[key] = number
        return {
            "calls": [_shown(entry) for entry in found[max(0, len(found) - limit) :]],
            "matched": len(found),
            "last": self._last,
            "counts": counts,
            "max_concurrent": {name: most for name, most in sorted(self._most.items()) if most},
        }


def _shown(entry: Entry) -> dict[str, Any]:
    shown = entry._asdict()
    shown["at"] = datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="milliseconds")
    shown["duration_ms"] = round(entry.duration_ms, 3)
    return {name: value for name, value in shown.items() if value is not None or name == "status"}


FORM = "application/x-www-form-urlencoded"


async def read_call(endpoint: Endpoint, scope: Scope, receive: Receive) -> Call:
    """Return the call with the values that the endpoint declares, from the query or the form."""
    headers = Headers(scope=scope)
    body = b"" if endpoint.method == "GET" else await Request(scope, receive).body()
    values = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if body and headers.get("content-type", "").startswith(FORM):
        values += parse_qsl(body.decode(errors="replace"), keep_blank_values=True)
    query = {name: value for name, value in values if name in endpoint.parameters}
    query |= {name: headers[header] for header, name in endpoint.headers.items() if header in headers}
    return Call(scope["path"], query, headers, body)


def shown_start(path: str) -> str:
    """Shorten a path that nobody serves: what follows a mistyped start may be a webhook's tokens."""
    first = path.strip("/").partition("/")[0][:40]
    return f"/{first}/…" if first and first != path.strip("/") else f"/{first}"
