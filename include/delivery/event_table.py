"""The table of events, as the delivery uses it: pages of its indexes, and groups of conditional changes."""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from include.clients.aws import aws_errors
from include.clients.dynamodb import read_items
from include.delivery.models import Change, Conflict, Event, Status, timestamp
from include.errors import AwsRefusedError, AwsUnavailableError, Backoff

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, BatchStatementRequestTypeDef

GROUP = 25
"""Most changes in one call."""

GATHER_SECONDS = 0.03
"""How long a change waits for others to be written with it: a call costs more than a post does."""

CALLS_AT_ONCE = 2
"""Calls of one task that write."""

PAGE = 100
"""Most events of an owner that are read at once; fewer when they are large."""

MAX_FAILED_PAGES = 4
"""Of an owner, whose failed events are kept and may be many."""

SETTLE_SECONDS = 1.0
"""An event is not looked at before this age: until then an older one may be missing in an index still."""

TEST_TYPE = "webhook.test"
"""Type of an event that tests a webhook."""

_TEST_ID = "evt_test"
_ATTEMPTS = 4
_PAUSES = Backoff(first=0.2, growth=4.0, jitter=2.0)
_PASSING = frozenset(
    {
        "InternalServerError",
        "ProvisionedThroughputExceeded",
        "RequestLimitExceeded",
        "ThrottlingError",
        "TransactionConflict",
    }
)
_AS_SEEN = 'WHERE "event_id"=? AND "version"=? AND "created_at"=?'


class EventTable:
    """One table. Every method raises AwsUnavailableError if a retry may work, else AwsRefusedError.

    The boto3 client is safe to share between threads; ``sleep`` as ``time.sleep``.
    """

    def __init__(self, dynamodb: DynamoDBClient, name: str, *, sleep: Callable[[float], object] = time.sleep) -> None:
        self._dynamodb = dynamodb
        self._name = name
        self._sleep = sleep

    def due(self, now: float, *, limit: int | None = None) -> Iterator[list[tuple[str, str]]]:
        """Pages of pending events that are due, those due for longest first: owner and time of creation of each.

        ``now`` in seconds since the epoch; ``limit`` is of a page, None is as many as DynamoDB reads.
        """
        for items in self._due(Status.PENDING.value, now, limit):
            # What was written by hand under an id that is gone has a status and nothing else.
            found = [item for item in items if {"owner", "position"} <= item.keys()]
            yield [(item["owner"]["S"], item["position"]["S"].partition("#")[0]) for item in found]

    def due_lanes(self, now: float, *, limit: int | None = None) -> Iterator[list[str]]:
        """Pages of owners whose lanes are due: see :mod:`include.delivery.ledger`; arguments as of :meth:`due`."""
        for items in self._due("lane", now, limit):
            yield [item["event_id"]["S"].partition("#")[2] for item in items]

    def _due(self, status: str, now: float, limit: int | None) -> Iterator[list[dict[str, Any]]]:
        pages = self._query(
            IndexName="by-status",
            KeyConditionExpression="#status = :status AND next_attempt_at <= :now",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":status": {"S": status}, ":now": {"S": timestamp(now)}},
            **({"Limit": limit} if limit else {}),
        )
        return (page["Items"] for page in pages)

    def items(self, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The items of some keys that are there, read consistently."""
        wanted = [{"event_id": {"S": key}} for key in keys]
        return read_items(self._dynamodb, self._name, wanted, attempts=_ATTEMPTS, pauses=_PAUSES, sleep=self._sleep)

    def pending(self, owner: str, now: float, *, limit: int = PAGE) -> list[Event]:
        """An owner's first pending events in the order of their creation, as the index has them, perhaps a moment late.

        Those younger than ``SETTLE_SECONDS`` at ``now`` (seconds since the epoch) are left out; fewer are read when
        they are large.
        """
        pages = self._query(
            IndexName="by-owner-status",
            KeyConditionExpression="owner_status = :owner_status AND #position < :settled",
            ExpressionAttributeNames={"#position": "position"},
            ExpressionAttributeValues={
                ":owner_status": {"S": _owner_status(owner, Status.PENDING)},
                ":settled": {"S": timestamp(now - SETTLE_SECONDS)},
            },
            Limit=limit,
        )
        return [Event.of(item) for item in next(pages)["Items"]]

    def failed(self, owner: str, since: float) -> list[Event]:
        """An owner's events that failed for good since then, seconds since the epoch.

        Reads the newest ones, ``MAX_FAILED_PAGES`` of 1 MB: as events are posted in their order, those of a moment ago
        are among them, however many failed before.
        """
        pages = self._query(
            IndexName="by-owner-status",
            KeyConditionExpression="owner_status = :owner_status",
            FilterExpression="failed_at >= :since",
            ExpressionAttributeValues={
                ":owner_status": {"S": _owner_status(owner, Status.FAILED)},
                ":since": {"S": timestamp(since)},
            },
            ScanIndexForward=False,
        )
        found = [Event.of(item) for page in islice(pages, MAX_FAILED_PAGES) for item in page["Items"]]
        return found[::-1]

    def add_test(self, owner: str, now: float) -> str:
        """Store an event of type ``webhook.test``, which is delivered like any other of the owner's; returns its id.

        It has a status of its own from the beginning, as events have that the API stored before there were lanes; its
        id begins with ``evt_test``. ``now`` in seconds since the epoch.
        """
        at = timestamp(now)
        event_id = _TEST_ID + "".join(secrets.choice(string.digits + string.ascii_lowercase) for _ in range(8))
        values: dict[str, str | int] = {
            "event_id": event_id,
            "owner": owner,
            "event_type": TEST_TYPE,
            "payload": '{"message":"A test of your webhook, sent by hand."}',
            "status": Status.PENDING.value,
            "owner_status": _owner_status(owner, Status.PENDING),
            "created_at": at,
            "position": f"{at}#{event_id}",
            "next_attempt_at": at,
            "delivery_attempts": 0,
            "version": 1,
        }
        item = {name: _serialize(value) for name, value in values.items()}
        with aws_errors("DynamoDB", f"write to table {self._name}"):
            try:
                self._dynamodb.put_item(
                    TableName=self._name,
                    Item=item,
                    ConditionExpression="attribute_not_exists(event_id)",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as error:
                # botocore repeats a call whose answer got lost, and then meets what it wrote itself.
                if error.response.get("Item") != item:
                    raise
        return event_id

    def change(self, changes: Sequence[Change]) -> list[Conflict | None]:
        """Make up to ``GROUP`` changes of different events in one call, each by itself.

        Statements, because only they can be sent in groups whose members are conditional one by one; a transaction
        would write all or nothing, at twice the price. A call that raises may have made some of the changes. Returns
        None for each that is made, or what is there instead.
        """
        results: list[Conflict | None] = [None] * len(changes)
        left = list(enumerate(changes))
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._sleep(_PAUSES.seconds(attempt))
            with aws_errors("DynamoDB", f"write to table {self._name}"):
                answer: Any = self._dynamodb.batch_execute_statement(
                    Statements=[self._statement(change) for _, change in left]
                )
            again = []
            for (index, change), response in zip(left, answer["Responses"], strict=True):
                error = response.get("Error", {})
                if error.get("Code") in _PASSING:
                    again.append((index, change))
                elif error.get("Code") == "ConditionalCheckFailed":
                    results[index] = _conflict(change, error.get("Item"))
                elif error:
                    raise AwsRefusedError(f"cannot write to table {self._name}: DynamoDB answered {error.get('Code')}")
            if not again:
                return results
            left = again
        raise AwsUnavailableError(f"cannot write to table {self._name}: DynamoDB keeps refusing some of a group")

    def _statement(self, change: Change) -> BatchStatementRequestTypeDef:
        sets = " ".join(f'SET "{name}"=?' for name in change.written)
        removes = " ".join(f'REMOVE "{name}"' for name in change.removes)
        seen = (change.event_id, change.seen, change.created_at)
        return {
            "Statement": f'UPDATE "{self._name}" {sets} {removes} {_AS_SEEN}',
            "Parameters": [_serialize(value) for value in (*change.written.values(), *seen)],
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _query(self, **request: Any) -> Iterator[dict[str, Any]]:
        while True:
            with aws_errors("DynamoDB", f"read from table {self._name}"):
                page: Any = self._dynamodb.query(TableName=self._name, **request)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _conflict(change: Change, there: Mapping[str, Any] | None) -> Conflict | None:
    # botocore repeats a call whose answer got lost, and then meets what it wrote itself.
    mine = {**change.written, "created_at": change.created_at}
    if there and all(there.get(name) == _serialize(value) for name, value in mine.items()):
        return None
    return Conflict(Event.of(there) if there else None)


def _serialize(value: str | int) -> AttributeValueTypeDef:
    # A change has nothing else; boto3's serializer, which knows all types, takes several times as long.
    return {"S": value} if isinstance(value, str) else {"N": str(value)}


def _owner_status(owner: str, status: Status) -> str:
    """Key of the index that holds an owner's events of one status together."""
    return f"{owner}#{status}"
