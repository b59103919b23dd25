"""A chunk to post, with fakes at its edges: the API's wire, the ledger's table, S3 and SQS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from include.call_details.dead_letters import DeadLetters
from include.call_details.ledger import ChunkLedger
from include.call_details.models import ChunkState, Claim, FileVersion
from include.call_details.poster import MAX_BYTES, Poster
from include.call_details.records import Batch
from include.clients.call_details import CallDetailsApi
from include.clients.dynamodb import ItemTable
from tests.worlds.call_details import POST_URL, FakeCallDetails, FakeTime
from tests.worlds.dynamodb import TABLE, FakeLedgerTable
from tests.worlds.s3 import FakeS3
from tests.worlds.sqs import QUEUE_URL, FakeSqs

FILE = FileVersion("ingest", "incoming/calls.txt", '"e1"')
CLAIM = Claim(FILE, "run-1", 1, 1)


def some_batch(number: int, count: int = 10, padding: int = 0) -> Batch:
    """A batch of ten records; its key is its number. ``padding`` makes its body longer by so many bytes."""
    return Batch(number, number * 10 + 1, count, str(number), b'{"records":[%d]}' % number + b" " * padding)


class PostingWorld:
    """All that a poster needs."""

    def __init__(self, api: FakeCallDetails | None = None) -> None:
        self.api = api or FakeCallDetails()
        self.time = FakeTime()
        self.table = FakeLedgerTable()
        self.s3 = FakeS3("ingest")
        self.sqs = FakeSqs()
        self.items = ItemTable(self.table, TABLE)
        self.dead_letters = DeadLetters(self.s3, self.sqs, "ingest", QUEUE_URL)

    def open(self, batches: int) -> ChunkLedger:
        """The chunk, for another attempt."""
        return ChunkLedger.open(self.items, CLAIM, 0, first=0, batches=batches)

    def client(self) -> CallDetailsApi:
        """An API client for one event loop."""
        login = self.api.login(self.time)
        return CallDetailsApi(POST_URL, login, http=self.api.http, sleep=self.time.sleep, clock=self.time)

    def post(
        self,
        batches: Iterator[Batch] | Sequence[Batch],
        *,
        size: int,
        workers: int = 4,
        max_bytes: int = MAX_BYTES,
    ) -> ChunkState:
        """Post what is left of a chunk of ``size`` batches."""

        async def run() -> ChunkState:
            async with self.client() as api:
                ledger = self.open(size)
                left = ((ledger, batch) for batch in batches if not ledger.state.is_settled(batch.number))
                await Poster(api, self.dead_letters, workers=workers, max_bytes=max_bytes).post(left)
                return ledger.state

        return asyncio.run(run())
