"""The ledger's DynamoDB table in memory: conditions on ``version``, botocore's own errors."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

TABLE = "ingest-ledger-test"


def table_error(code: str, status: int = 400, **more: Any) -> ClientError:
    """The error that botocore raises when DynamoDB answers ``code``."""
    answer: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return ClientError(answer, "PutItem")


class FakeLedgerTable:
    """Quacks like a boto3 DynamoDB client with one table.

    ``before[operation]`` is called before each such call, to fail it or to let another writer come first;
    ``after[operation]`` when it has done its work, to lose its answer.
    """

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.before: dict[str, Callable[[], None]] = {}
        self.after: dict[str, Callable[[], None]] = {}
        self.page_size = 2
        self._lock = threading.RLock()

    def get_item(self, *, TableName: str, Key: dict[str, Any], ConsistentRead: bool) -> dict[str, Any]:  # noqa: N803
        assert ConsistentRead, "an older state must not be taken for the present one"
        with self._call("get_item", TableName):
            found = self.items.get(_key(Key))
            return {"Item": dict(found)} if found else {}

    def put_item(self, **request: Any) -> dict[str, Any]:
        with self._call("put_item", request["TableName"]):
            self._check(_key(request["Item"]), request)
            self.items[_key(request["Item"])] = request["Item"]
            return {}

    def delete_item(self, **request: Any) -> dict[str, Any]:
        with self._call("delete_item", request["TableName"]):
            self._check(_key(request["Key"]), request)
            self.items.pop(_key(request["Key"]), None)
            return {}

    def get_paginator(self, operation: str) -> FakeLedgerTable:
        assert operation == "query"
        return self

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        assert request["ConsistentRead"]
        assert request["KeyConditionExpression"].startswith("pk = :pk")
        values = request["ExpressionAttributeValues"]
        pk, prefix = values[":pk"]["S"], values.get(":prefix", {"S": ""})["S"]
        with self._call("query", request["TableName"]):
            keys = sorted(key for key in self.items if key[0] == pk and key[1].startswith(prefix))
            found = [self.items[key] for key in keys]
        for start in range(0, len(found), self.page_size):
            yield {"Items": found[start : start + self.page_size]}

    @contextmanager
    def _call(self, operation: str, table: str) -> Iterator[None]:
        self.calls[operation] += 1
        self.before.get(operation, lambda: None)()
        if table != TABLE:
            raise table_error("ResourceNotFoundException")
        with self._lock:
            yield
        self.after.get(operation, lambda: None)()

    def _check(self, key: tuple[str, str], request: dict[str, Any]) -> None:
        there = self.items.get(key)
        if request["ConditionExpression"] == "attribute_not_exists(pk)":
            holds = there is None
        else:
            assert request["ConditionExpression"] == "version = :seen"
            holds = there is not None and there["version"] == request["ExpressionAttributeValues"][":seen"]
        if not holds:
            tell = there and request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
            more: Any = {"Item": there} if tell else {}
            raise table_error("ConditionalCheckFailedException", **more)


def _key(item: dict[str, Any]) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]
