"""What the stubs received: the latest calls, counters by path and status, and the greatest concurrency.

Writing is cheap (a tuple and two counters); dictionaries and texts are made when somebody reads.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope

from local.partners.partner import Call, Endpoint, under

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


@dataclass(slots=True)
class Concurrency:
    """Calls in progress on one path, and the most there were at once."""

    now: int = 0
    most: int = 0


class Journal:
    """The calls of one server, oldest dropped first."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._entries: deque[Entry] = deque(maxlen=capacity)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._concurrency: dict[str, Concurrency] = {}
        self._last = 0

    def enter(self, path: str) -> None:
        """Note that a call to `path` has begun."""
        running = self._concurrency.setdefault(path, Concurrency())
        running.now += 1
        running.most = max(running.most, running.now)

    def leave(self, path: str) -> None:
        """Note that a call to `path` has ended, in whatever way."""
        self._concurrency[path].now -= 1

    def record(self, entry: Entry) -> None:
        """Keep one call, counted under its status or, if it was not answered in full, under `end`."""
        self._last += 1
        self._entries.append(entry._replace(n=self._last))
        self._counts[entry.path, str(entry.status) if entry.end == "answered" else entry.end] += 1

    def clear(self) -> None:
        """Forget calls and counters; numbering goes on, calls in progress stay counted as such."""
        self._entries.clear()
        self._counts.clear()
        self._concurrency = {path: Concurrency(each.now, each.now) for path, each in self._concurrency.items()}

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
            "max_concurrent": {name: each.most for name, each in sorted(self._concurrency.items()) if each.most},
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
