"""What storing and delivering events costs on AWS: write units, counted from each request and what it changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from typing import Any, cast

from botocore import xform_name
from botocore.exceptions import ClientError

from benchmarks.bench import BenchmarkError
from benchmarks.delivery_backlog import Receivers
from benchmarks.results import Comparison
from include.clients.webhooks import Endpoint, open_webhooks
from include.delivery.dispatcher import Dispatcher
from include.delivery.event_table import EventTable
from include.delivery.ledger import Ledger
from include.delivery.report import DeadLetters
from include.delivery.subscriptions import Subscriptions
from lambdas.common.aws import timestamp
from lambdas.events_api.models import Event, Status, random_id
from lambdas.events_api.store import EventStore
from local.stack.description import Stack

_UNIT_BYTES = 1024
_DOLLARS_A_MILLION = 0.625
"""Of write units, on demand, in us-east-1."""

_AIM = 0.6
_SETTLE_SECONDS = 1.5


@dataclass(frozen=True)
class _Case:
    """So many events of each of some owners.

    Args:
        before: what a delivered event took with each event's outcome in its own item: a version before owners' lanes.
    """

    what: str
    payload_bytes: int
    owners: int
    events: int
    before: float
    aim: float | None = None


_CASES = (
    _Case("300 B", 300, 2, 100, 5.4, _AIM),
    _Case("10 KB", 10_000, 2, 100, 49.0, _AIM),
    _Case("100 KB", 100_000, 1, 50, 490.0, _AIM),
    _Case("300 B, one event an owner", 300, 20, 1, 8.0),
)


class MeteredTable:
    """A boto3 client of one table, which adds up the ``units`` that its writes would take on AWS.

    Capacity for a write is that of the item before or after, whichever is larger, by the kilobyte; an index takes its
    own for what it has of the item, if that changes (the documentation of DynamoDB on capacity and on indexes).
    """

    def __init__(self, dynamodb: Any, table: str) -> None:
        self.units = 0
        self.dynamodb = dynamodb
        self.name = table
        self._indexes = dynamodb.describe_table(TableName=table)["Table"]["GlobalSecondaryIndexes"]

    def __getattr__(self, name: str) -> Any:
        if name == "batch_execute_statement":
            raise BenchmarkError("events were written one by one")
        return getattr(self.dynamodb, name)

    def put_item(self, **request: Any) -> Any:
        """Put an item."""
        return self._write("put_item", {"event_id": request["Item"]["event_id"]}, request)

    def update_item(self, **request: Any) -> Any:
        """Change an item."""
        return self._write("update_item", request["Key"], request)

    async def call(self, operation: str, **request: Any) -> Any:
        """A call by the name that the operation has in the API."""
        return await asyncio.to_thread(getattr(self, xform_name(operation)), **request)

    def _write(self, operation: str, key: Mapping[str, Any], request: Mapping[str, Any]) -> Any:
        before = self._item(key)
        try:
            return getattr(self.dynamodb, operation)(**request)
        except ClientError:
            # One that is refused costs the table as much as one that is made.
            self.units += _units(before or {}, {})
            raise
        finally:
            after = self._item(key)
            if after != before:
                self.units += _units(before or {}, after or {}) + sum(self._of_indexes(before, after))

    def _item(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.dynamodb.get_item(TableName=self.name, Key=key, ConsistentRead=True).get(
            "Item"
        )
        return found

    def _of_indexes(self, before: dict[str, Any] | None, after: dict[str, Any] | None) -> Iterator[int]:
        for index in self._indexes:
            keys = [part["AttributeName"] for part in index["KeySchema"]]
            kept = {"event_id", *keys, *index["Projection"].get("NonKeyAttributes", ())}
            everything = index["Projection"]["ProjectionType"] == "ALL"
            old, new = (
                {name: value for name, value in item.items() if everything or name in kept}
                if item and set(keys) <= set(item)
                else None
                for item in (before, after)
            )
            if old is None or new is None:
                yield _units(old or new or {}, {}) if old or new else 0
            elif [old[name] for name in keys] != [new[name] for name in keys]:
                yield _units(old, {}) + _units(new, {})
            else:
                yield _units(old, new) if old != new else 0


def write_units(stack: Stack, receivers: Receivers) -> list[Comparison]:
    """Rows of write units an event: stored by the events API's code, and delivered by the delivery's."""
    return [row for case in _CASES for row in _rows(stack, receivers, case)]


def _rows(stack: Stack, receivers: Receivers, case: _Case) -> Iterator[Comparison]:
    names = [f"units-{random_id()}" for _ in range(case.owners)]
    receivers.subscribe(names)
    table = MeteredTable(stack.aws("dynamodb"), stack.events_table)
    # An owner's first event is delivered without a lane.
    _store(table, names, case, 1)
    _deliver(stack, table, names, len(names), events_in=table.dynamodb)
    table.units = 0
    _store(table, names, case, case.events)
    stored, table.units = table.units, 0
    _deliver(stack, table, names, case.events * len(names))
    number = case.events * len(names)
    yield Comparison(
        f"write units to deliver an event ({case.what}), and a million's price",
        _priced(table.units / number),
        _priced(case.before),
        f"1/{case.before * number / table.units:.0f}",
        f"at most {case.aim}" if case.aim else "",
        table.units / number <= case.aim if case.aim else None,
    )
    yield Comparison(f"write units to store it ({case.what})", _priced(stored / number), "-", "-")


def _store(table: MeteredTable, owners: list[str], case: _Case, events: int) -> None:
    store = EventStore(cast("Any", table), table.name)
    payload = f'{{"note":"{case.payload_bytes * "x"}"}}'
    for owner in events * owners:
        at = timestamp(datetime.now(UTC))
        store.put(
            Event(random_id(), owner, "order.placed", payload, None, None, Status.PENDING, at, next_attempt_at=at)
        )


def _deliver(stack: Stack, table: MeteredTable, owners: list[str], events: int, *, events_in: Any = None) -> None:
    time.sleep(_SETTLE_SECONDS)
    dispatcher = Dispatcher(
        events=EventTable(events_in or cast("Any", table), stack.events_table),
        open_ledger=lambda: nullcontext(Ledger(table.call, stack.events_table)),
        subscriptions=Subscriptions(stack.aws("dynamodb"), stack.subscriptions_table, sleep=time.sleep),
        dead_letters=DeadLetters(stack.aws("sqs"), stack.event_dlq_url),
        open_endpoint=lambda url: Endpoint(url, open_webhooks(public_only=False), https_only=False),
        concurrency=64,
        max_attempts=1,
    )
    delivered = asyncio.run(dispatcher.deliver(owners)).delivered
    if delivered != events:
        raise BenchmarkError(f"{events} events were to be delivered, not {delivered}")


def _units(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return max(1, ceil(max(_size(one), _size(other)) / _UNIT_BYTES))


def _size(item: Mapping[str, Any]) -> int:
    return sum(len(name) + len(str(next(iter(value.values()))).encode()) for name, value in item.items())


def _priced(units: float) -> str:
    return f"{units:.2f} (${units * _DOLLARS_A_MILLION:,.2f})"
