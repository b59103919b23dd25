"""A DynamoDB table in memory that understands the expressions of the Lambdas and their tools, and no others."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from tests.fakes.dynamodb import Lose, dynamodb_error

Item = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Repeat:
    """The table does what it is asked, the answer gets lost on its way, and the client asks again."""


Fault = Exception | Lose | Repeat | None
"""What happens to one call; None = nothing."""


class FakeTable:
    """Quacks like a boto3 DynamoDB client with one table.

    Args:
        name: of the table.
        key: its partition key.
        indexes: partition key of each index; all are sorted by ``position``.
        faults: one for each call, from the first; later calls have none.
    """

    def __init__(
        self, name: str, key: str, indexes: dict[str, str] | None = None, *, faults: Iterable[Fault] = ()
    ) -> None:
        self.items: dict[str, Item] = {}
        self.calls: list[str] = []
        self.faults = iter(faults)
        self.page_size = 2
        self._name = name
        self._key = key
        self._indexes = indexes or {}
        self._lock = threading.Lock()

    def get_item(self, **request: Any) -> dict[str, Any]:
        assert request["ConsistentRead"], "an older state must not be taken for the present one"
        found = self._call("get_item", request, lambda: self.items.get(request["Key"][self._key]["S"]))
        return {"Item": dict(found)} if found else {}

    def put_item(self, **request: Any) -> dict[str, Any]:
        def put() -> dict[str, Any]:
            item = request["Item"]
            self._check(item[self._key]["S"], request)
            self.items[item[self._key]["S"]] = dict(item)
            return {}

        return self._call("put_item", request, put)

    def update_item(self, **request: Any) -> dict[str, Any]:
        def update() -> dict[str, Any]:
            key = request["Key"][self._key]["S"]
            self._check(key, request)
            item = {self._key: {"S": key}, **self.items.get(key, {})}
            self.items[key] = _updated(item, request)
            return {"Attributes": dict(self.items[key])}

        return self._call("update_item", request, update)

    def delete_item(self, **request: Any) -> dict[str, Any]:
        def delete() -> dict[str, Any]:
            key = request["Key"][self._key]["S"]
            self._check(key, request)
            self.items.pop(key, None)
            return {}

        return self._call("delete_item", request, delete)

    def query(self, **request: Any) -> dict[str, Any]:
        def query() -> dict[str, Any]:
            partition, _, rest = request["KeyConditionExpression"].partition(" AND ")
            name = partition.split(" = ")[0]
            assert request["ExpressionAttributeNames"][name] == self._indexes[request["IndexName"]]
            conditions = [partition, *([rest] if rest else [])]
            found = [item for item in self.items.values() if all(_holds(each, item, request) for each in conditions)]
            found.sort(key=lambda item: item["position"]["S"], reverse=not request["ScanIndexForward"])
            page = found[: request["Limit"]]
            more = {"LastEvaluatedKey": {"event_id": page[-1]["event_id"]}} if len(page) == request["Limit"] else {}
            return {"Items": [dict(item) for item in page], **more}

        return self._call("query", request, query)

    def get_paginator(self, operation: str) -> FakeTable:
        assert operation == "scan"
        return self

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        names = request["ExpressionAttributeNames"]
        shown = {names.get(name, name) for name in request["ProjectionExpression"].split(", ")}
        items = self._call("scan", request, lambda: list(self.items.values()))
        for start in range(0, len(items), self.page_size):
            page = items[start : start + self.page_size]
            yield {"Items": [{name: value for name, value in item.items() if name in shown} for item in page]}

    def _call[T](self, operation: str, request: dict[str, Any], work: Callable[[], T]) -> T:
        with self._lock:
            self.calls.append(operation)
            fault = next(self.faults, None)
            if isinstance(fault, Exception):
                raise fault
            if request["TableName"] != self._name:
                raise dynamodb_error("ResourceNotFoundException")
            answer = work()
            if isinstance(fault, Lose):
                raise fault.error
            return work() if isinstance(fault, Repeat) else answer

    def _check(self, key: str, request: dict[str, Any]) -> None:
        there = self.items.get(key, {})
        condition = request.get("ConditionExpression", "")
        if all(_holds(each, there, request) for each in condition.split(" AND ") if each):
            return
        tell = there and request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
        error: Any = {
            "Error": {"Code": "ConditionalCheckFailedException", "Message": ""},
            "ResponseMetadata": {"HTTPStatusCode": 400},
            **({"Item": dict(there)} if tell else {}),
        }
        raise ClientError(error, "PutItem")


def _holds(condition: str, item: Item, request: dict[str, Any]) -> bool:
    names, values = request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {})
    if function := re.fullmatch(r"attribute_(not_)?exists\((\S+)\)", condition):
        return (names.get(function[2], function[2]) in item) is not bool(function[1])
    name, operator, value = condition.split(" ")
    found, other = item.get(names.get(name, name)), values[value]
    if found is None:
        return False
    return {"=": found == other, "<>": found != other, "<": found["S"] < other["S"], ">": found["S"] > other["S"]}[
        operator
    ]


def _updated(item: Item, request: dict[str, Any]) -> Item:
    names, values = request.get("ExpressionAttributeNames", {}), request["ExpressionAttributeValues"]
    sets, _, removed = request["UpdateExpression"].removeprefix("SET ").partition(" REMOVE ")
    changed = {name: value for name, value in item.items() if name not in removed.split(", ")}
    for name, text in re.findall(r"(\S+) = (if_not_exists\(.+?\)|[^,]+)", sets):
        if kept := re.fullmatch(r"if_not_exists\((\S+), (\S+)\)", text):
            value = item.get(names.get(kept[1], kept[1]), values[kept[2]])
        elif " + " in text:
            old, added = text.split(" + ")
            value = {"N": str(int(item[old]["N"]) + int(values[added]["N"]))}
        else:
            value = values[text.strip()]
        changed[names.get(name, name)] = value
    return changed
