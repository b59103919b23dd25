"""DynamoDB in memory: tables that understand the requests of this project, and no others, with botocore's own errors.

A test makes calls fail, or lets somebody else come first, by ``faults`` in their order or by hooks around a call.
"""

import re
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from decimal import Decimal
from itertools import batched
from types import SimpleNamespace
from typing import Any, Self

from botocore import xform_name
from botocore.exceptions import ClientError

from include.delivery.models import timestamp
from lambdas.events_api.lanes import Lane, Outcome, outcomes_of
from lambdas.events_api.store import EventStore
from tests.worlds.dynamodb_expressions import Attributes, holds, plain, updated
from tests.worlds.pipeline import PLANTED

MAX_BATCH = 25
MAX_DIGITS = 38


def table_error(code: str, status: int | None = None, **more: Any) -> ClientError:
    """The error that botocore raises when DynamoDB answers ``code``."""
    status = status or {"InternalServerError": 500, "ServiceUnavailable": 503}.get(code, 400)
    answer: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return ClientError(answer, "PutItem")


@dataclass(frozen=True)
class Leave:
    """The table leaves the last so many requests of a batch unprocessed."""

    requests: int


@dataclass(frozen=True)
class Lose:
    """The table stores the batch, and the answer never arrives."""

    error: Exception


@dataclass(frozen=True)
class Repeat:
    """The table does what it is asked, the answer gets lost on its way, and the client asks again."""


Fault = Exception | Leave | Lose | Repeat | None
"""What happens to one call; None = nothing."""


class FakeTable:
    """Quacks like a boto3 DynamoDB client with one table.

    ``before[operation]`` is called before each such call, to fail it or to let another writer come first;
    ``after[operation]`` when it has done its work, to lose its answer.

    Args:
        name: of the table.
        keys: its partition key, and its sort key if it has one; ``items`` are by their values.
        indexes: partition and sort key of each index.
        faults: one for each call, from the first; later calls have none.
    """

    def __init__(
        self, name: str, *keys: str, indexes: dict[str, tuple[str, str]] | None = None, faults: Iterable[Fault] = ()
    ) -> None:
        self.items: dict[Any, Attributes] = {}
        self.calls: Counter[str] = Counter()
        self.before: dict[str, Callable[[], None]] = {}
        self.after: dict[str, Callable[[], None]] = {}
        self.faults = iter(faults)
        self.page_size = 2
        self.batch_size = 100
        self.megabyte = 3
        self.left = 0
        self._name = name
        self._keys = keys
        self._indexes = indexes or {}
        self._lock = threading.RLock()

    def get_item(self, **request: Any) -> dict[str, Any]:
        assert request["ConsistentRead"], "an older state must not be taken for the present one"
        found = self._call("get_item", request, lambda: self.items.get(self._key(request["Key"])))
        return {"Item": dict(found)} if found else {}

    def put_item(self, **request: Any) -> dict[str, Any]:
        def put() -> dict[str, Any]:
            self._check(request["Item"], request)
            self.items[self._key(request["Item"])] = dict(request["Item"])
            return {}

        return self._call("put_item", request, put)

    def update_item(self, **request: Any) -> dict[str, Any]:
        def update() -> dict[str, Any]:
            self._check(request["Key"], request)
            key = self._key(request["Key"])
            self.items[key] = updated({**request["Key"], **self.items.get(key, {})}, request)
            return {"Attributes": dict(self.items[key])}

        return self._call("update_item", request, update)

    def delete_item(self, **request: Any) -> dict[str, Any]:
        def delete() -> dict[str, Any]:
            self._check(request["Key"], request)
            found = self.items.pop(self._key(request["Key"]), None)
            return {"Attributes": found} if found and request.get("ReturnValues") == "ALL_OLD" else {}

        return self._call("delete_item", request, delete)

    def transact_write_items(self, *, TransactItems: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's
        deletions = [member["Delete"] for member in TransactItems]

        def write() -> dict[str, Any]:
            keys = [self._key(each["Key"]) for each in deletions]
            held = [
                holds(each.get("ConditionExpression", ""), self.items.get(key, {}), each)
                for key, each in zip(keys, deletions, strict=True)
            ]
            if not all(held):
                reasons = [{"Code": "None" if each else "ConditionalCheckFailed"} for each in held]
                raise table_error("TransactionCanceledException", CancellationReasons=reasons)
            for key in keys:
                self.items.pop(key, None)
            return {}

        return self._call("transact_write_items", deletions[0], write)

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        ((table, request),) = RequestItems.items()
        assert request["ConsistentRead"], "an older state must not be taken for the present one"

        def get() -> dict[str, Any]:
            keys = [self._key(key) for key in request["Keys"]]
            if not 0 < len(keys) <= 100 or len(set(keys)) < len(keys):
                raise table_error("ValidationException")
            now, later = keys[: self.batch_size], request["Keys"][self.batch_size :]
            return {
                "Responses": {table: [dict(self.items[key]) for key in reversed(now) if key in self.items]},
                "UnprocessedKeys": {table: {"Keys": later}} if later else {},
            }

        return self._call("batch_get_item", {"TableName": table}, get)

    def query(self, **request: Any) -> dict[str, Any]:
        return self._call("query", request, lambda: self.found(self.items.values(), request))

    def found(self, items: Iterable[Attributes], request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a query of an index that shows these items."""
        partition, sort = self._indexes[request["IndexName"]]
        found = [item for item in items if partition in item and sort in item]
        found = [item for item in found if holds(request["KeyConditionExpression"], item, request)]
        backwards = not request.get("ScanIndexForward", True)
        found.sort(key=lambda item: (item[sort]["S"], item[self._keys[0]]["S"]), reverse=backwards)
        names = (self._keys[0], partition, sort)
        if "ExclusiveStartKey" in request:
            assert set(request["ExclusiveStartKey"]) == set(names)
            places = [(item[sort], item[self._keys[0]]) for item in found]
            start = (request["ExclusiveStartKey"][sort], request["ExclusiveStartKey"][self._keys[0]])
            found = found[places.index(start) + 1 :]
        size = min(request.get("Limit", self.megabyte), self.megabyte)
        page = found[:size]
        last = {name: page[-1][name] for name in names} if len(page) == size else {}
        shown = [dict(item) for item in page if holds(request.get("FilterExpression", ""), item, request)]
        items = {} if request.get("Select") == "COUNT" else {"Items": shown}
        return {**items, "Count": len(shown), **({"LastEvaluatedKey": last} if last else {})}

    def get_paginator(self, operation: str) -> Any:
        return SimpleNamespace(paginate={"scan": self._scan, "query": self._query}[operation])

    def _scan(self, **request: Any) -> Iterator[dict[str, Any]]:
        names = request["ExpressionAttributeNames"]
        shown = {names.get(name, name) for name in request["ProjectionExpression"].split(", ")}
        items = self._call("scan", request, lambda: list(self.items.values()))
        yield from self._pages([{name: value for name, value in each.items() if name in shown} for each in items])

    def _query(self, **request: Any) -> Iterator[dict[str, Any]]:
        assert request["ConsistentRead"]
        assert request["KeyConditionExpression"].startswith("pk = :pk")
        values = request["ExpressionAttributeValues"]
        pk, prefix = values[":pk"]["S"], values.get(":prefix", {"S": ""})["S"]
        items = self._call("query", request, lambda: sorted(self.items.items()))
        yield from self._pages([item for key, item in items if key[0] == pk and key[1].startswith(prefix)])

    def _pages(self, items: list[Attributes]) -> Iterator[dict[str, Any]]:
        return ({"Items": list(page)} for page in batched(items, self.page_size))

    def _key(self, item: Attributes) -> Any:
        values = tuple(item[name]["S"] for name in self._keys)
        return values if len(values) > 1 else values[0]

    def _call[T](self, operation: str, request: dict[str, Any], work: Callable[[], T]) -> T:
        with self._lock:
            self.calls[operation] += 1
        self.before.get(operation, lambda: None)()
        with self._lock:
            fault = next(self.faults, None)
            if isinstance(fault, Exception):
                raise fault
            self.left = fault.requests if isinstance(fault, Leave) else 0
            if request["TableName"] != self._name:
                raise table_error("ResourceNotFoundException")
            answer = work()
            if isinstance(fault, Lose):
                raise fault.error
            answer = work() if isinstance(fault, Repeat) else answer
        self.after.get(operation, lambda: None)()
        return answer

    def _check(self, key: Attributes, request: dict[str, Any]) -> None:
        there = self.items.get(self._key(key), {})
        if holds(request.get("ConditionExpression", ""), there, request):
            return
        tell = there and request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
        raise table_error("ConditionalCheckFailedException", **({"Item": dict(there)} if tell else {}))


class FakeDynamoDB(FakeTable):
    """The table of the orders API, which takes batches, with the limits of the real one."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        super().__init__("orders", "record_id", faults=faults)
        self.batches: list[int] = []

    def batch_write_item(self, *, RequestItems: dict[str, list[Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        ((table, requests),) = RequestItems.items()
        self.batches.append(len(requests))

        def write() -> dict[str, Any]:
            taken = max(len(requests) - self.left, 0)
            self._take([request["PutRequest"]["Item"] for request in requests][:taken], requests)
            return {"UnprocessedItems": {table: requests[taken:]} if requests[taken:] else {}}

        return self._call("batch_write_item", {"TableName": table}, write)

    def _take(self, items: list[dict[str, Any]], requests: list[Any]) -> None:
        ids = [request["PutRequest"]["Item"]["record_id"]["S"] for request in requests]
        if not 1 <= len(ids) <= MAX_BATCH or len(set(ids)) < len(ids):
            raise table_error("ValidationException")
        for item in items:
            number = Decimal(item["parameter_2"]["N"])
            if len(number.as_tuple().digits) > MAX_DIGITS or (number and not -130 <= number.adjusted() <= 125):
                raise table_error("ValidationException")
            self.items[item["record_id"]["S"]] = item


TABLE = "ingest-ledger-test"


class FakeLedgerTable(FakeTable):
    def __init__(self) -> None:
        super().__init__(TABLE, "pk", "sk")


EVENTS = "events-test"
SUBSCRIPTIONS = "subscriptions-test"
SECRET = "whsec_" + b64encode(f"~~~\x7f{PLANTED}".encode()).decode()
"""Of a webhook: with the characters of base64 that URLs write in another way."""

_STATEMENT = re.compile(r'UPDATE "(?P<table>[^"]+)" (?P<changes>.*?) (?P<condition>WHERE .*)')
_CONDITION = 'WHERE "event_id"=? AND "version"=? AND "created_at"=?'


EVENT_INDEXES = {
    "by-status": ("status", "next_attempt_at"),
    "by-owner": ("owner", "position"),
    "by-owner-status": ("owner_status", "position"),
    "by-idempotency-key": ("owner", "idempotency_key"),
}


def event_item(number: int, owner: str = "acme", *, created: float, **changes: Any) -> dict[str, Any]:
    """A pending event with a status of its own, but for ``changes``; None leaves an attribute out."""
    event_id, at = f"evt_{number:012d}", timestamp(created)
    values = {
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
    item = {name: _typed(value) for name, value in values.items() if value is not None}
    return {**item, "owner_status": {"S": f"{owner}#{values['status']}"}}


def method_of(client: object, operation: str) -> Callable[..., Any]:
    """The method of a boto3 client that makes an operation."""
    return getattr(client, xform_name(operation))


class FakeEventTables:
    """Quacks like a boto3 DynamoDB client with both tables.

    ``before`` and ``after`` are called around each call with the operation's name, to fail it, to lose its answer, or
    to let somebody else come first. While it is late, indexes show what was there when that began. They do not
    show ``hidden`` events.
    """

    def __init__(self) -> None:
        self.table = FakeTable(EVENTS, "event_id", indexes=EVENT_INDEXES)
        self._subscribed = FakeTable(SUBSCRIPTIONS, "owner")
        self.subscriptions: dict[str, Attributes] = self._subscribed.items
        self.calls: Counter[str] = Counter()
        self.before: Callable[[str], None] = lambda operation: None
        self.after: Callable[[str], None] = lambda operation: None
        self.passing: list[str] = []
        self.page_size = 1000
        self.hidden: set[str] = set()
        self._late: dict[str, dict[str, Any]] | None = None
        self._lock = threading.RLock()

    @property
    def items(self) -> dict[str, dict[str, Any]]:
        """Everything in the table of events: lanes too."""
        return self.table.items

    @property
    def events(self) -> dict[str, dict[str, Any]]:
        return {key: item for key, item in self.items.items() if key.startswith("evt_")}

    def lane(self, owner: str = "acme") -> dict[str, Any]:
        """An owner's lane, without the types of its attributes; empty if there is none."""
        return {name: plain(value) for name, value in self.items.get(f"lane#{owner}", {}).items()}

    def add_lane(self, owner: str, posts: int, *, created: float) -> None:
        """Give an owner a lane that a worker has had, and count so many events as posted."""
        lane = self.items.setdefault(f"lane#{owner}", {"event_id": {"S": f"lane#{owner}"}, "status": {"S": "lane"}})
        at = {"S": timestamp(created)}
        lane |= {"next_attempt_at": at, "posted_at": at, "oldest": lane.get("oldest", at)}
        lane["posts"] = {"N": str(int(lane.get("posts", {"N": "0"})["N"]) + posts)}
        lane.setdefault("version", {"N": "1"})
        lane.setdefault("marker", {"S": "0"})

    def add(self, *items: dict[str, Any]) -> None:
        self.items.update({item["event_id"]["S"]: item for item in items})

    def subscribe(self, owner: str, url: str = "https://receiver.test/hook", *, active: bool = True) -> None:
        item = {"owner": {"S": owner}, "url": {"S": url}, "secret": {"S": SECRET}, "active": {"BOOL": active}}
        self.subscriptions[owner] = item

    @property
    def api(self) -> EventStore:
        """The events API's store on the table of events; its calls are not counted, and cannot be made to fail."""
        return EventStore(self.table, EVENTS)

    def plain(self, number: int) -> dict[str, Any]:
        """An event's attributes without their types, with what its owner's lane says of it."""
        item = self.items[f"evt_{number:012d}"]
        found = {name: plain(value) for name, value in item.items()}
        if "owner_status" not in item:
            found |= asdict(self.api.get(found["owner"], found["event_id"]))
        return {name: value for name, value in found.items() if value is not None}

    def found_statuses(self) -> dict[str, str]:
        """The status of every event by its id, as the lanes say where it has none of its own."""
        lanes: dict[str, Lane] = {}
        listed: dict[str, Outcome | None] = {}
        for key, item in self.items.items():
            if key.startswith("lane#"):
                lanes[key.removeprefix("lane#")] = Lane.of(item)
            elif key.startswith("batch#"):
                listed |= outcomes_of(item)
        found: dict[str, str] = {}
        for key, item in self.events.items():
            found[key] = item["status"]["S"]
            if "owner_status" not in item:
                position = item["position"]["S"]
                if lanes[item["owner"]["S"]].outcomes.get(position, listed.get(position)) is not None:
                    found[key] = "delivered"
        return found

    def statuses(self) -> list[str]:
        """The same, in the order in which they were stored."""
        return [str(status) for status in self.found_statuses().values()]

    def be_late(self, late: bool = True) -> None:
        """Let indexes show what is there now, until told otherwise."""
        self._late = {key: dict(item) for key, item in self.items.items()} if late else None

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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""

    async def call(self, operation: str, **request: Any) -> Any:
        """A call by the name that the operation has in the API."""
        return method_of(self, operation)(**request)

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
        item = self.items.get(event_id["S"])
        if item is None or (item["version"], item["created_at"]) != (version, created_at):
            tell = {"Item": dict(item)} if item else {}
            return {"Error": {"Code": "ConditionalCheckFailed", **tell}}
        assert all(name in item for name in removes), "AWS may refuse to remove what is not there"
        item |= dict(zip(sets, values, strict=True))
        for name in removes:
            del item[name]
        return {"TableName": EVENTS}

    def query(self, **request: Any) -> dict[str, Any]:
        assert request["TableName"] == EVENTS
        with self._call("query"):
            shown = self.items if self._late is None else self._late
            self.table.megabyte = self.page_size
            return self.table.found((item for key, item in shown.items() if key not in self.hidden), request)

    def get_item(self, *, TableName: str, Key: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's names
        with self._call("get_item"):
            table, key = (self.items, "event_id") if TableName == EVENTS else (self.subscriptions, "owner")
            found = table.get(Key[key]["S"])
            return {"Item": dict(found)} if found else {}

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self._subscribed.batch_size = self.page_size
        table = self.table if EVENTS in RequestItems else self._subscribed
        with self._call("batch_get_item"):
            return table.batch_get_item(RequestItems=RequestItems)

    def put_item(self, **request: Any) -> dict[str, Any]:
        return self._of_events("put_item", request)

    def delete_item(self, **request: Any) -> dict[str, Any]:
        return self._of_events("delete_item", request)

    def scan(
        self,
        *,
        TableName: str,  # noqa: N803 - boto3's names
        ExclusiveStartKey: dict[str, dict[str, str]] | None = None,  # noqa: N803
        Limit: int = 1_000_000,  # noqa: N803
    ) -> dict[str, Any]:
        assert TableName == SUBSCRIPTIONS
        with self._call("scan"):
            begin = list(self.subscriptions).index(ExclusiveStartKey["owner"]["S"]) + 1 if ExclusiveStartKey else 0
            stop = begin + min(self.page_size, Limit)
            page = list(self.subscriptions.values())[begin:stop]
            more = {"LastEvaluatedKey": {"owner": page[-1]["owner"]}} if stop < len(self.subscriptions) else {}
            return {"Items": page, **more}

    def update_item(self, **request: Any) -> dict[str, Any]:
        if request["TableName"] == EVENTS:
            return self._of_events("update_item", request)
        with self._call("update_subscription"):
            return self._subscribed.update_item(**request)

    def _of_events(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        with self._call(operation):
            return getattr(self.table, operation)(**request)

    @contextmanager
    def _call(self, operation: str) -> Iterator[None]:
        self.before(operation)
        with self._lock:
            self.calls[operation] += 1
            yield
        self.after(operation)


def _typed(value: int | str) -> dict[str, str]:
    return {"N": str(value)} if isinstance(value, int) else {"S": value}
