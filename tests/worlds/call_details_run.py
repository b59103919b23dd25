"""One ingest run without Airflow: its steps over fakes of bucket, ledger, queue and API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from include.call_details.dead_letters import DeadLetters
from include.call_details.ledger import Claims
from include.call_details.models import ChunkState, Claim, FileVersion, Plan
from include.call_details.planner import Planner
from include.call_details.poster import PostingContext, post_chunk
from include.call_details.rate_limit import ConcurrencyLimiter
from include.call_details.reconcile import Closing
from include.call_details.storage import FileStore
from include.clients.call_details import CallDetailsApi, Gate
from include.clients.dynamodb import ItemTable
from tests.worlds.call_details import POST_URL, FakeCallDetails, FakeTime
from tests.worlds.dynamodb import TABLE, FakeLedgerTable
from tests.worlds.s3 import BUCKET, FakeIngestBucket
from tests.worlds.sqs import QUEUE_URL, FakeSqs

KEY = "incoming/ä b+.txt"
STARTED = datetime(2026, 3, 8, 23, 59, tzinfo=UTC)
ENDED = datetime(2026, 3, 9, 0, 1, tzinfo=UTC)
RUN = "run-1"


class RunWorld:
    """Everything a run touches; two records make a batch."""

    def __init__(self) -> None:
        self.s3 = FakeIngestBucket()
        self.table = FakeLedgerTable()
        self.sqs = FakeSqs()
        self.api = FakeCallDetails()
        self.time = FakeTime()
        self.store = FileStore(self.s3, BUCKET)
        self.items = ItemTable(self.table, TABLE)
        self.claims = Claims(self.items, clock=self.time)

    def drop(self, body: bytes, key: str = KEY) -> FileVersion:
        return FileVersion(BUCKET, key, self.s3.drop(key, body))

    def claim(self, file: FileVersion, owner: str = RUN, *, force: bool = False) -> Claim:
        claim = self.claims.claim(file, owner, force=force, begun=True)
        assert isinstance(claim, Claim)
        return claim

    def plan(self, file: FileVersion, owner: str = RUN, *, force: bool = False) -> tuple[Claim, Plan]:
        claim = self.claim(file, owner, force=force)
        return claim, Planner(self.store, self.claims, records_per_batch=2, now=lambda: STARTED).plan(claim)

    def posting_context(
        self, *, limit: int = 50, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> PostingContext:
        def open_api(gate: Gate) -> CallDetailsApi:
            login = self.api.login(self.time)
            return CallDetailsApi(POST_URL, login, gate=gate, http=self.api.http, sleep=self.time.sleep)

        return PostingContext(
            store=self.store,
            table=self.items,
            claims=self.claims,
            limiter=ConcurrencyLimiter(self.items, "calls", limit),
            limit=limit,
            dead_letters=DeadLetters(self.s3, self.sqs, BUCKET, QUEUE_URL),
            open_api=open_api,
            sleep=sleep,
        )

    def post(self, claim: Claim, plan: Plan, index: int = 0) -> ChunkState:
        return asyncio.run(post_chunk(self.posting_context(), claim, plan, plan.chunks[index]))

    def closing(self, file: FileVersion, run_id: str = RUN, now: datetime = ENDED) -> Closing:
        return Closing(self.store, self.items, self.claims, file, run_id, STARTED, now)
