"""The table of orders: a request's records are written in batches, and what the table does not take is sent again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import batched
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.common import aws
from lambdas.orders_api.models import NotStoredError, OrderRecord

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import WriteRequestTypeDef

BATCH_RECORDS = 25
"""DynamoDB takes no more in one call."""

BATCHES_AT_ONCE = 4
"""A batch is mostly waiting: 500 records take a quarter of the time. More would only run into the table's limits."""

CALL_SECONDS = 4.0
"""The longest that one call can take: time to connect and time to answer."""

_CONNECT_SECONDS = 1.0
_FIRST_DELAY_SECONDS = 0.05
_LONGEST_DELAY_SECONDS = 2.0


def dynamodb_client() -> DynamoDBClient:
    """A client that never tries again by itself: the store does, within the time that the invocation has."""
    return cast(
        "DynamoDBClient",
        aws.client(
            "dynamodb",
            connect_seconds=_CONNECT_SECONDS,
            read_seconds=CALL_SECONDS - _CONNECT_SECONDS,
            attempts=1,
            connections=BATCHES_AT_ONCE,
        ),
    )


@dataclass(frozen=True)
class _Rest:
    """What of a batch is not stored.

    Args:
        reason: DynamoDB's error code, botocore's error, ``UnprocessedItems`` or ``OutOfTime``.
        worth_repeating: the same call may work later.
    """

    records: Sequence[OrderRecord]
    reason: str
    worth_repeating: bool


@dataclass(frozen=True)
class OrderStore:
    """Writes records to one table.

    ``clock`` gives seconds that only grow, ``sleep`` waits that many; ``share`` is how much of a delay is really
    waited, a random number from 0 to 1.
    """

    dynamodb: DynamoDBClient
    table: str
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True)
    sleep: Callable[[float], None] = field(default=time.sleep, kw_only=True)
    share: Callable[[], float] = field(default=random.random, kw_only=True)

    def put(self, records: Sequence[OrderRecord], *, ttl: int, seconds: float) -> None:
        """Store all of the records, whose ids differ; those with an id that the table knows replace what it has.

        They expire at ``ttl``, Unix time. Calls begin within so many seconds; each may take CALL_SECONDS more.

        Raises:
            NotStoredError: some or all are not stored; it names them.
        """
        write = partial(self._write_until, self.clock() + seconds, ttl)
        if len(records) <= BATCH_RECORDS:
            rests = [write(records)]
        else:
            with ThreadPoolExecutor(BATCHES_AT_ONCE) as threads:
                rests = list(threads.map(write, batched(records, BATCH_RECORDS)))
        rests = [rest for rest in rests if rest.records]
        if rests:
            not_stored = [record.record_id for rest in rests for record in rest.records]
            raise NotStoredError(
                stored=len(records) - len(not_stored),
                not_stored=not_stored,
                reasons=sorted({rest.reason for rest in rests}),
                worth_repeating=all(rest.worth_repeating for rest in rests),
            )

    def _write_until(self, deadline: float, ttl: int, batch: Sequence[OrderRecord]) -> _Rest:
        """Send a batch, and again what is left of it, until nothing is, or the time is up, or it makes no sense."""
        rest, delay = _Rest(batch, "OutOfTime", worth_repeating=True), _FIRST_DELAY_SECONDS
        # Before the first time too: the batches that went before may have used up the time.
        while rest.worth_repeating and self.clock() < deadline:
            rest = self._write(rest.records, ttl)
            pause = delay * self.share()
            if not rest.worth_repeating or self.clock() + pause >= deadline:
                break
            self.sleep(pause)
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
        return rest

    def _write(self, batch: Sequence[OrderRecord], ttl: int) -> _Rest:
        """Send a batch once."""
        try:
            answer = self.dynamodb.batch_write_item(RequestItems={self.table: [_put(record, ttl) for record in batch]})
        except (ClientError, BotoCoreError) as error:
            # Without an answer it is not known whether the batch was stored; a second time does no harm.
            return _Rest(batch, aws.error_code(error), aws.may_pass(error))
        unprocessed: Sequence[Any] = answer.get("UnprocessedItems", {}).get(self.table, [])
        ids = {request["PutRequest"]["Item"]["record_id"]["S"] for request in unprocessed}
        return _Rest([record for record in batch if record.record_id in ids], "UnprocessedItems", bool(ids))


def _put(record: OrderRecord, ttl: int) -> WriteRequestTypeDef:
    return {
        "PutRequest": {
            "Item": {
                "record_id": {"S": record.record_id},
                "parameter_1": {"S": record.parameter_1},
                "parameter_2": {"N": str(record.parameter_2)},
                "ttl": {"N": str(ttl)},
            }
        }
    }
