"""The table of events, as the delivery uses it: pages of its indexes, and groups of conditional changes.

Brings the changes of many lanes into few calls: a call costs more than a post does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from include.clients.aws import aws_errors
from include.delivery.models import Change, Event, Lost, Status, timestamp
from include.errors import AwsRefusedError, AwsUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, BatchStatementRequestTypeDef

GROUP = 25
"""Most changes in one call."""

PAGE = 50
"""Most events of an owner that are read at once; fewer when they are large."""

MAX_FAILED_PAGES = 4
"""Of an owner, whose failed events are kept and may be many."""

SETTLE_SECONDS = 1.0
"""An event is not looked at before this age: until then an older one may be missing in an index still."""

_ATTEMPTS = 4
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
    """One table.

    Args:
        dynamodb: a boto3 client; safe to share between threads.
        name: the table.
        sleep: as ``time.sleep``.
    """

    def __init__(self, dynamodb: DynamoDBClient, name: str, *, sleep: Callable[[float], object] = time.sleep) -> None:
        self._dynamodb = dynamodb
        self._name = name
        self._sleep = sleep

    def due(self, now: float) -> Iterator[list[tuple[str, str]]]:
        """Pages of pending events that are due, those that have been so for longest first: owner and creation of each.

        Raises:
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        pages = self._query(
            IndexName="by-status",
            KeyConditionExpression="#status = :pending AND next_attempt_at <= :now",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":pending": {"S": Status.PENDING.value}, ":now": {"S": timestamp(now)}},
        )
        for page in pages:
            yield [(item["owner"]["S"], item["position"]["S"].partition("#")[0]) for item in page["Items"]]

    def pending(self, owner: str, now: float, *, after: Event | None = None, limit: int = PAGE) -> list[Event]:
        """An owner's pending events in the order of their creation, as the index has them: it may be a moment late.

        Args:
            owner: whose.
            now: those that are younger than ``SETTLE_SECONDS`` are left out.
            after: the event behind which to begin.
            limit: at most so many; fewer when they are large.

        Raises:
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        request: dict[str, Any] = {
            "IndexName": "by-owner-status",
            "KeyConditionExpression": "owner_status = :lane AND #position < :settled",
            "ExpressionAttributeNames": {"#position": "position"},
            "ExpressionAttributeValues": {
                ":lane": {"S": _lane(owner)},
                ":settled": {"S": timestamp(now - SETTLE_SECONDS)},
            },
            "Limit": limit,
        }
        if after is not None:
            key = {"event_id": after.event_id, "owner_status": _lane(owner), "position": after.position}
            request["ExclusiveStartKey"] = {name: {"S": value} for name, value in key.items()}
        return [Event.of(item) for item in next(self._query(**request))["Items"]]

    def failed(self, owner: str, since: float) -> list[Event]:
        """An owner's events that failed for good since then: for when nobody is left to tell of them.

        The newest ones are looked at, ``MAX_FAILED_PAGES`` of 1 MB: as events are posted in their order, those of a
        moment ago are among them, however many failed before.

        Raises:
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        pages = self._query(
            IndexName="by-owner-status",
            KeyConditionExpression="owner_status = :failed",
            FilterExpression="failed_at >= :since",
            ExpressionAttributeValues={
                ":failed": {"S": f"{owner}#{Status.FAILED}"},
                ":since": {"S": timestamp(since)},
            },
            ScanIndexForward=False,
        )
        found = [Event.of(item) for page in islice(pages, MAX_FAILED_PAGES) for item in page["Items"]]
        return found[::-1]

    def change(self, changes: Sequence[Change]) -> list[Lost | None]:
        """Make up to ``GROUP`` changes of different events in one call, each by itself.

        Statements, because they alone can be sent in groups that are conditional one by one; a transaction would
        write all or nothing, at twice the price.

        Returns:
            for each change None when it is made, or what is there instead.

        Raises:
            AwsUnavailableError: a retry may work; changes may have been made.
            AwsRefusedError: it will not.
        """
        results: list[Lost | None] = [None] * len(changes)
        left = list(enumerate(changes))
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._sleep(random.uniform(0.5, 1.5) * 0.1 * 4.0**attempt)  # noqa: S311
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
                    results[index] = _lost(change, error.get("Item"))
                elif error:
                    raise AwsRefusedError(f"cannot write to table {self._name}: DynamoDB answered {error.get('Code')}")
            if not again:
                return results
            left = again
        raise AwsUnavailableError(f"cannot write to table {self._name}: DynamoDB goes on refusing some of a group")

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


def _lost(change: Change, there: Mapping[str, Any] | None) -> Lost | None:
    # botocore repeats a call whose answer got lost, and is then told of what it wrote itself.
    mine = {**change.written, "created_at": change.created_at}
    if there and all(there.get(name) == _serialize(value) for name, value in mine.items()):
        return None
    return Lost(Event.of(there) if there else None)


def _serialize(value: str | int) -> AttributeValueTypeDef:
    # A change has nothing else; boto3's serializer, which knows all types, takes several times as long.
    return {"S": value} if isinstance(value, str) else {"N": str(value)}


def _lane(owner: str) -> str:
    return f"{owner}#{Status.PENDING}"


GATHER_SECONDS = 0.03
"""How long a change waits for company. Only claims, and the last outcome of each, are waited for in their turn."""

CALLS_AT_ONCE = 2


class Writer:
    """Writes changes of one table.

    Args:
        table: the table.
        threads: where its calls are made.
        sleep: as ``asyncio.sleep``.
    """

    def __init__(
        self,
        table: EventTable,
        threads: Executor,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._table = table
        self._threads = threads
        self._sleep = sleep
        self._waiting: deque[tuple[Change, asyncio.Future[Lost | None]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()

    async def write(self, changes: Sequence[Change]) -> list[Lost | None]:
        """Make changes of different events.

        Returns:
            for each None when it is made, or what is there instead.

        Raises:
            AwsUnavailableError: a retry may work; changes may have been made.
            AwsRefusedError: it will not.
        """
        loop = asyncio.get_running_loop()
        mine = [(change, loop.create_future()) for change in changes]
        self._waiting.extend(mine)
        if len(self._calls) < CALLS_AT_ONCE:
            self._calls.add(asyncio.create_task(self._write()))
        return list(await asyncio.gather(*(done for _, done in mine)))

    async def close(self) -> None:
        """Let what is waiting be written, also when whoever waited was cancelled: it says what was posted."""
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _write(self) -> None:
        try:
            await self._write_waiting()
        finally:
            # Not when the task is done, which is a moment later: a change that came between would wait for nobody.
            self._calls.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _write_waiting(self) -> None:
        while self._waiting:
            if len(self._waiting) < GROUP:
                await self._sleep(GATHER_SECONDS)
            group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            if not group:
                return
            try:
                results = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._table.change, [change for change, _ in group]
                )
            except Exception as error:  # noqa: BLE001 - whoever waits raises it
                for _, done in group:
                    if not done.done():
                        done.set_exception(error)
            else:
                for (_, done), result in zip(group, results, strict=True):
                    if not done.done():
                        done.set_result(result)
