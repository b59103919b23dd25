"""A backlog: pending events of many owners, as the events API stores them, and the receivers that they are for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from benchmarks.bench import LATENCY_MS, BenchmarkError
from include.delivery.models import Event as DueEvent
from include.delivery.owner_queue import SignedRequest, signed_request
from lambdas.common.aws import timestamp
from lambdas.events_api.lanes import lane_key
from lambdas.events_api.models import Event, Status, random_id
from lambdas.events_api.store import item_of
from lambdas.tools.subscriptions import SubscriptionTable, new_secret
from local.partners.app import ARRIVALS_PATH, SECRETS_PATH
from local.partners.receivers import PATH
from local.stack.description import Stack

_AGE = timedelta(minutes=1)
_PAYLOAD = '{"order": "B-1", "amount": 1204.50, "note": "' + 200 * "x" + '"}'
_PER_WRITE = 25
_OF_LANE = ("owner_status", "next_attempt_at")
"""What an event does not have as long as its owner's lane says what became of it."""


@dataclass(frozen=True)
class Posting:
    """What the receivers saw of a backlog.

    Args:
        events: that arrived.
        seconds: from the arrival of the first one to that of the last one.
    """

    events: int
    seconds: float

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds


class Receivers:
    """The owners' webhooks: receivers of the stack's partner stubs, which check signatures, never fail, and answer
    after ``LATENCY_MS``.
    """

    def __init__(self, stack: Stack) -> None:
        self._table = SubscriptionTable(stack.aws("dynamodb"), stack.subscriptions_table)
        self._http = httpx.Client(base_url=stack.partners_url, timeout=60)
        rules = [{"path": PATH, "latency_ms": LATENCY_MS}]
        self._http.put("/control", json={"rules": rules}).raise_for_status()

    def url(self, owner: str) -> str:
        """The webhook of an owner."""
        return str(self._http.base_url.join(f"{PATH}/{owner}"))

    def subscribe(self, owners: Sequence[str]) -> Mapping[str, str]:
        """Have the events of these owners delivered; returns their secrets."""
        secrets = {owner: new_secret() for owner in owners}
        for owner, secret in secrets.items():
            self._table.put(owner, self.url(owner), secret, timestamp(datetime.now(UTC)))
        self._http.put(SECRETS_PATH, json=secrets).raise_for_status()
        return secrets

    def forget(self) -> None:
        """Let the stub forget what has arrived."""
        self._http.delete(ARRIVALS_PATH).raise_for_status()

    def arrived(self, **asked: str) -> list[dict[str, Any]]:
        """What has arrived since, in its order; at all receivers, or at the ``receiver`` asked for."""
        found: list[dict[str, Any]] = self._http.get(ARRIVALS_PATH, params=asked).raise_for_status().json()["arrivals"]
        return found


class Backlog:
    """So many events of so many owners, one owner's after the other's in turns.

    Args:
        stack: whose table of events.
        receivers: of the owners, who subscribe here.
        events: in all.
        owners: who have as many each.
    """

    def __init__(self, stack: Stack, receivers: Receivers, *, events: int, owners: int) -> None:
        self._stack = stack
        self._receivers = receivers
        names = [f"benchmark-{number}" for number in range(owners)]
        self._secrets = receivers.subscribe(names)
        began = datetime.now(UTC) - _AGE
        times = [timestamp(began + timedelta(milliseconds=number)) for number in range(events)]
        self._items = [item_of(_event(names[number % owners], at)) for number, at in enumerate(times)]
        self._lanes = [_lane(name, len(range(index, events, owners)), times[index]) for index, name in enumerate(names)]

    def store(self) -> None:
        """Make all of the events pending, whatever has become of them, for owners that have had events before."""
        table, dynamodb = self._stack.events_table, self._stack.aws("dynamodb")
        stored = [
            *({name: value for name, value in item.items() if name not in _OF_LANE} for item in self._items),
            *self._lanes,
        ]
        for start in range(0, len(stored), _PER_WRITE):
            puts = [{"PutRequest": {"Item": item}} for item in stored[start : start + _PER_WRITE]]
            if dynamodb.batch_write_item(RequestItems={table: puts}).get("UnprocessedItems"):
                raise BenchmarkError(f"DynamoDB did not take all of {len(puts)} events")

    def requests(self) -> dict[str, list[SignedRequest]]:
        """The posts that deliver the events, written and signed now: by owner, in their order."""
        now = datetime.now(UTC).timestamp()
        found: dict[str, list[SignedRequest]] = defaultdict(list)
        for event in map(DueEvent.of, self._items):
            found[event.owner].append(signed_request(event, self._secrets[event.owner], now))
        return found

    def posting(self) -> Posting:
        """What has arrived since the receivers were made to forget.

        Raises:
            BenchmarkError: not every event arrived once, signed, and in its owner's order.
        """
        arrived = self._receivers.arrived()
        seen, wanted = defaultdict(list), defaultdict(list)
        for arrival in arrived:
            if arrival["accepted"] and arrival["verified"]:
                seen[arrival["receiver"]].append(arrival["webhook_id"])
        for item in self._items:
            wanted[item["owner"]["S"]].append(item["event_id"]["S"])
        if seen != wanted:
            raise BenchmarkError(f"{len(self._items):,} events were to arrive once and in order, not {len(arrived):,}")
        return Posting(len(arrived), arrived[-1]["at"] - arrived[0]["at"])


def _lane(owner: str, posts: int, at: str) -> dict[str, Any]:
    texts = {"event_id": lane_key(owner), "status": "lane", "marker": "0"}
    times = dict.fromkeys(("next_attempt_at", "posted_at", "oldest"), at)
    numbers = {"posts": posts, "version": 1}
    return {name: {"S": text} for name, text in {**texts, **times}.items()} | {
        name: {"N": str(number)} for name, number in numbers.items()
    }


def _event(owner: str, at: str) -> Event:
    return Event(random_id(), owner, "order.placed", _PAYLOAD, None, None, Status.PENDING, at, next_attempt_at=at)
