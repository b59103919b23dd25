"""A call-details run without Airflow: its steps over fakes of bucket, ledger, queue and API."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime

from include.call_details.dead_letters import DeadLetters
from include.call_details.ledger import LEASE_SECONDS, ChunkLedger, Claims
from include.call_details.models import ChunkState, Claim, Done, FileVersion, LeaseHeld, Plan, Settled
from include.call_details.planner import Planner
from include.call_details.poster import MAX_BYTES, Poster, PostingContext, post_chunk
from include.call_details.rate_limit import ConcurrencyLimiter
from include.call_details.reconcile import Closing
from include.call_details.records import Batch
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
LEASE = 100.0
"""Of the claims of a :class:`LedgerWorld`."""

FILE = FileVersion(BUCKET, "incoming/calls.txt", '"e1"')
CLAIM = Claim(FILE, RUN, 1, 1)


class Surroundings:
    """The fakes, and what the product sees of them."""

    def __init__(self, api: FakeCallDetails | None = None, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self.s3 = FakeIngestBucket()
        self.table = FakeLedgerTable()
        self.sqs = FakeSqs()
        self.api = api or FakeCallDetails()
        self.time = FakeTime()
        self.store = FileStore(self.s3, BUCKET)
        self.items = ItemTable(self.table, TABLE)
        self.claims = Claims(self.items, lease_seconds=lease_seconds, clock=self.time)
        self.dead_letters = DeadLetters(self.s3, self.sqs, BUCKET, QUEUE_URL)


class RunWorld(Surroundings):
    """Everything a run touches; two records make a batch."""

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
            claims=self.claims,
            limiter=ConcurrencyLimiter(self.items, "calls", limit),
            dead_letters=self.dead_letters,
            open_api=open_api,
            sleep=sleep,
        )

    def post(self, claim: Claim, plan: Plan, index: int = 0) -> ChunkState:
        return asyncio.run(post_chunk(self.posting_context(), claim, plan, plan.chunks[index]))

    def closing(self, file: FileVersion, run_id: str = RUN, now: datetime = ENDED) -> Closing:
        return Closing(self.store, self.claims, file, run_id, STARTED, now)


class LedgerWorld(Surroundings):
    """Claims of one file, and its chunks."""

    def __init__(self) -> None:
        super().__init__(lease_seconds=LEASE)

    def claim(self, owner: str = RUN, *, file: FileVersion = FILE, force: bool = False) -> Claim | LeaseHeld | Done:
        return self.claims.claim(file, owner, force=force)

    def claimed(self, owner: str = RUN, *, force: bool = False) -> Claim:
        claim = self.claim(owner, force=force)
        assert isinstance(claim, Claim)
        return claim

    def open(self, claim: Claim, index: int = 0, first: int = 0, batches: int = 4) -> ChunkLedger:
        return ChunkLedger.open(self.items, claim, index, first=first, batches=batches)


def accepted(*numbers: int) -> list[Settled]:
    return [Settled(number, 500, accepted=True) for number in numbers]


def some_batch(number: int, count: int = 10, padding: int = 0) -> Batch:
    """A batch of ten records; its key is its number. ``padding`` makes its body longer by so many bytes."""
    return Batch(number, number * 10 + 1, count, str(number), b'{"records":[%d]}' % number + b" " * padding)


class PostingWorld(Surroundings):
    """All that a poster needs."""

    def open(self, batches: int) -> ChunkLedger:
        """The chunk, for another attempt."""
        return ChunkLedger.open(self.items, CLAIM, 0, first=0, batches=batches)

    def client(self) -> CallDetailsApi:
        """An API client for one event loop."""
        login = self.api.login(self.time)
        return CallDetailsApi(POST_URL, login, http=self.api.http, sleep=self.time.sleep, clock=self.time)

    def post(
        self, batches: Iterator[Batch] | Sequence[Batch], *, size: int, workers: int = 4, max_bytes: int = MAX_BYTES
    ) -> ChunkState:
        """Post what is left of a chunk of ``size`` batches."""

        async def run() -> ChunkState:
            async with self.client() as api:
                ledger = self.open(size)
                left = ((ledger, batch) for batch in batches if not ledger.state.is_settled(batch.number))
                await Poster(api, self.dead_letters, workers=workers, max_bytes=max_bytes).post(left)
                return ledger.state

        return asyncio.run(run())
