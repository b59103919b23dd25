"""The tables of events and subscriptions in memory: conditional statements, and indexes that may be late."""

from __future__ import annotations

import copy
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from include.delivery.models import timestamp
from tests.fakes.ledger_table import table_error

EVENTS = "events-test"
SUBSCRIPTIONS = "subscriptions-test"
SECRET = "whsec_cGw0bnRlZC1zM2NyZXQtb2YtMzItYnl0ZXMtbG9uZyE="

_STATEMENT = re.compile(r'UPDATE "(?P<table>[^"]+)" (?P<changes>.*?) (?P<condition>WHERE .*)')
_CONDITION = 'WHERE "event_id"=? AND "version"=? AND "created_at"=?'


def event_item(number: int, owner: str = "acme", *, created: float, **changes: Any) -> dict[str, Any]:
    """A pending event as the Events API stores it, but for ``changes``; None leaves an attribute out."""
    event_id, at = f"evt_{number:012d}", timestamp(created)
    plain = {
        "event_id": event_id,
        "owner": owner,
        "event_type": "order.placed",
        "payload": f'{{"n":{number}.50}}',
        "status": "pending",
        "created_at": at,
        "position": f"{at}#{event_id}",
        "delivery_attempts": 0,
        "next_attempt_at": at,
        "version": 1,
        **changes,
    }
    item = {
        name: {"N": str(value)} if isinstance(value, int) else {"S": value} for name, value in plain.items() if value
    }
    item["delivery_attempts"] = {"N": str(plain["delivery_attempts"])}
    return {**item, "owner_status": {"S": f"{owner}#{plain['status']}"}}


class FakeEventTables:
    """Quacks like a boto3 DynamoDB client with both tables.

    ``before`` and ``after`` are called around each call with the operation's name, to fail it, to lose its answer, or
    to let somebody else come first. While ``late`` is set, indexes show what was there when it was set.
    """

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.subscriptions: dict[str, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.before: Callable[[str], None] = lambda operation: None
        self.after: Callable[[str], None] = lambda operation: None
        self.passing: list[str] = []
        self.page_size = 1000
        self._late: dict[str, dict[str, Any]] | None = None
        self._lock = threading.RLock()

    def add(self, *items: dict[str, Any]) -> None:
        """Store events."""
        self.events |= {item["event_id"]["S"]: item for item in items}

    def subscribe(self, owner: str, url: str = "https://receiver.test/hook", *, active: bool = True) -> None:
        """Give an owner a webhook."""
        item = {"owner": {"S": owner}, "url": {"S": url}, "secret": {"S": SECRET}, "active": {"BOOL": active}}
        self.subscriptions[owner] = item

    def plain(self, number: int) -> dict[str, Any]:
        """An event's attributes without their types."""
        found = self.events[f"evt_{number:012d}"]
        return {name: int(value["N"]) if "N" in value else value["S"] for name, value in found.items()}

    def statuses(self) -> list[str]:
        """The status of every event, in the order in which they were stored."""
        return [item["status"]["S"] for item in self.events.values()]

    def be_late(self, late: bool = True) -> None:
        """Let indexes show what is there now, until told otherwise."""
        self._late = copy.deepcopy(self.events) if late else None

    def change(self, number: int, **attributes: Any) -> None:
        """What somebody else does to an event; None removes an attribute."""
        item = self.events[f"evt_{number:012d}"]
        item["version"] = {"N": str(int(item["version"]["N"]) + 1)}
        for name, value in attributes.items():
            if value is None:
                item.pop(name, None)
            else:
                item[name] = _typed(value)
        item["owner_status"] = {"S": f"{item['owner']['S']}#{item['status']['S']}"}

    def batch_execute_statement(self, *, Statements: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's
        assert 1 <= len(Statements) <= 25
        with self._call("batch_execute_statement"):
            return {"Responses": [self._execute(each) for each in Statements]}

    def _execute(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.passing:
            return {"Error": {"Code": self.passing.pop(0)}}
        found = _STATEMENT.fullmatch(request["Statement"])
        assert found, request["Statement"]
        assert (found["table"], found["condition"]) == (EVENTS, _CONDITION)
        sets, removes = re.findall(r'SET "(\w+)"=\?', found["changes"]), re.findall(r'REMOVE "(\w+)"', found["changes"])
        *values, event_id, version, created_at = request["Parameters"]
        item = self.events.get(event_id["S"])
        if item is None or (item["version"], item["created_at"]) != (version, created_at):
            tell = {"Item": copy.deepcopy(item)} if item else {}
            return {"Error": {"Code": "ConditionalCheckFailed", **tell}}
        assert all(name in item for name in removes), "AWS may refuse to remove what is not there"
        item |= dict(zip(sets, values, strict=True))
        for name in removes:
            del item[name]
        return {"TableName": EVENTS}

    def query(self, **request: Any) -> dict[str, Any]:
        assert request["TableName"] == EVENTS
        values = {name: value["S"] for name, value in request["ExpressionAttributeValues"].items()}
        with self._call("query"):
            shown = self.events if self._late is None else self._late
            partition, sort = ("status", "next_attempt_at")
            if request["IndexName"] == "by-owner-status":
                partition, sort = ("owner_status", "position")
            wanted = values.get(":pending") or values.get(":lane") or values[":failed"]
            found = [each for each in shown.values() if sort in each and each[partition]["S"] == wanted]
            if ":now" in values:
                found = [each for each in found if each[sort]["S"] <= values[":now"]]
            if ":settled" in values:
                found = [each for each in found if each[sort]["S"] < values[":settled"]]
            backwards = not request.get("ScanIndexForward", True)
            found.sort(key=lambda each: str(each[sort]["S"]), reverse=backwards)
            if "ExclusiveStartKey" in request:
                start = request["ExclusiveStartKey"][sort]["S"]
                found = [each for each in found if each[sort]["S"] != start and (each[sort]["S"] < start) is backwards]
            page = copy.deepcopy(found[: min(request.get("Limit", self.page_size), self.page_size)])
            more = {"LastEvaluatedKey": page[-1]} if len(page) < len(found) else {}
            if ":since" in values:
                page = [each for each in page if each["failed_at"]["S"] >= values[":since"]]
            return {"Items": page, **more}

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        ((table, request),) = RequestItems.items()
        assert (table, request["ConsistentRead"]) == (SUBSCRIPTIONS, True)
        assert 1 <= len(request["Keys"]) <= 100
        with self._call("batch_get_item"):
            owners = [key["owner"]["S"] for key in request["Keys"]]
            assert len(set(owners)) == len(owners)
            done, left = owners[: self.page_size], request["Keys"][self.page_size :]
            items = [self.subscriptions[owner] for owner in done if owner in self.subscriptions]
            return {
                "Responses": {table: copy.deepcopy(items)},
                "UnprocessedKeys": {table: {"Keys": left}} if left else {},
            }

    def scan(self, *, TableName: str, ExclusiveStartKey: int = 0) -> dict[str, Any]:  # noqa: N803 - boto3's names
        assert TableName == SUBSCRIPTIONS
        with self._call("scan"):
            stop = ExclusiveStartKey + self.page_size
            page = list(self.subscriptions.values())[ExclusiveStartKey:stop]
            return {"Items": page, **({"LastEvaluatedKey": stop} if stop < len(self.subscriptions) else {})}

    def update_item(self, **request: Any) -> dict[str, Any]:
        assert request["TableName"] == SUBSCRIPTIONS
        assert request["ConditionExpression"] == "active = :on AND #url = :url"
        values = request["ExpressionAttributeValues"]
        with self._call("update_item"):
            item = self.subscriptions[request["Key"]["owner"]["S"]]
            if item["active"] != values[":on"] or item["url"] != values[":url"]:
                raise table_error("ConditionalCheckFailedException")
            item |= {"active": values[":off"], "deactivated_reason": values[":reason"], "updated_at": values[":now"]}
            return {}

    @contextmanager
    def _call(self, operation: str) -> Iterator[None]:
        self.before(operation)
        with self._lock:
            self.calls[operation] += 1
            yield
        self.after(operation)


def _typed(value: int | str) -> dict[str, str]:
    return {"N": str(value)} if isinstance(value, int) else {"S": value}
