"""Posts a chunk of a plan, or those of many small files: reads them from S3, posts their batches within the limit of
calls, and settles each in the ledger before its worker takes the next.

A task that dies leaves no more batches posted but not acknowledged than it has workers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice

from include.call_details.dead_letters import DeadLetter, DeadLetters
from include.call_details.ledger import LEASE_SECONDS, ChunkLedger, Claims, chunk_state, first_chunks
from include.call_details.models import TASKS_AT_ONCE, Chunk, ChunkState, Claim, FileVersion, Plan, Settled
from include.call_details.rate_limit import ConcurrencyLimiter
from include.call_details.records import Batch, read_batches
from include.call_details.storage import FileStore
from include.clients.call_details import CallDetailsApi, Delivery, Gate
from include.clients.dynamodb import Item
from include.concurrency import GroupCommit, task_group
from include.errors import ApiUnavailableError, ClaimLostError, PausedError, PipelineError, TransientError

GATHER_SECONDS = 0.04
"""How long acknowledgements wait for more: one write costs as much CPU as four calls of the API, so few are better."""

MAX_BYTES = 128 * 1024 * 1024
"""Of bodies in memory: several tasks share a machine. A batch of common size has some 50 KB."""

UNAVAILABLE_AFTER = 10
"""Batches in a row that fail in a way that may pass, each after all its attempts: the API itself is unavailable."""

_FAILED_BYTES = 16 * 1024 * 1024
"""Of bodies that failed and are kept until that is known."""

_READ_BYTES = 1024 * 1024
"""Of bodies that are made at once: one at a time, posting and reading would wait for each other at every batch."""

type _Work = tuple[ChunkLedger, Batch]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PostingContext:
    """What a chunk is posted with; ``last_try`` as of :class:`Poster`."""

    store: FileStore
    claims: Claims
    limiter: ConcurrencyLimiter
    dead_letters: DeadLetters
    open_api: Callable[[Gate], CallDetailsApi]
    last_try: bool = False
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


def share_of(limit: int, plan: Plan, chunk: Chunk) -> int:
    """How many calls at once a chunk asks for: its part of the limit, but never more than half of it.

    Files that arrive later find some left, and a chunk of few batches takes no more than these.
    """
    at_once = min(max(len(plan.chunks), 2), TASKS_AT_ONCE)
    return min(-(-limit // at_once), chunk.batches)


async def post_chunk(context: PostingContext, claim: Claim, plan: Plan, chunk: Chunk) -> ChunkState:
    """Post what is left of a chunk; returns how far it has come: to its end.

    Raises:
        PipelineError: any of S3, the ledger, the login, the dead letters, or of waiting for permits. A ClaimLostError
            means that another run or attempt has taken over; nothing more is posted.
    """
    await asyncio.to_thread(context.claims.renew, claim)
    ledger = await asyncio.to_thread(
        ChunkLedger.open, context.claims.table, claim, chunk.index, first=chunk.first_batch, batches=chunk.batches
    )
    if not ledger.state.finished:
        share = share_of(context.limiter.limit, plan, chunk)
        await _post(context, [claim], _left_of(context, plan, chunk, ledger), share)
    return ledger.state


async def post_files(
    context: PostingContext, files: Sequence[tuple[Claim, Plan]], *, tasks: int
) -> dict[FileVersion, PipelineError]:
    """Post what is left of small files, of which one that cannot be posted costs only itself.

    ``tasks`` is how many tasks of the run do the same. Returns why files could not be posted to their ends, by file.

    Raises:
        PipelineError: of the login, or of waiting for permits, or the API is unavailable: what is left is for a retry.
    """
    failed: dict[FileVersion, PipelineError] = {}
    chunks = await asyncio.to_thread(first_chunks, context.claims.table, [claim for claim, _ in files])
    left = [
        (claim, plan)
        for claim, plan in files
        if len(plan.chunks) > 1 or (plan.chunks and not _finished(chunks[claim.file.partition]))
    ]
    if left:
        share = min(-(-context.limiter.limit // max(tasks, 2)), sum(plan.batches for _, plan in left))
        batches = _batches_of(context, left, chunks, failed)
        await _post(context, [claim for claim, _ in left], batches, share, failed)
    return failed


def _finished(item: Item) -> bool:
    state = chunk_state(item)
    return state is not None and state.finished


def _batches_of(
    context: PostingContext,
    files: Sequence[tuple[Claim, Plan]],
    chunks: Mapping[str, Item],
    failed: dict[FileVersion, PipelineError],
) -> Iterator[_Work]:
    """What is left of files, one after the other; why one cannot be opened or read is put into ``failed``."""
    for claim, plan in files:
        try:
            for chunk in plan.chunks:
                seen, cut = chunks[claim.file.partition], {"first": chunk.first_batch, "batches": chunk.batches}
                if chunk.index or seen.version:
                    ledger = ChunkLedger.open(context.claims.table, claim, chunk.index, **cut)
                else:
                    ledger = ChunkLedger.never_opened(context.claims.table, claim, seen, **cut)
                yield from _left_of(context, plan, chunk, ledger)
        except PipelineError as error:
            failed[plan.file] = error


def _left_of(context: PostingContext, plan: Plan, chunk: Chunk, ledger: ChunkLedger) -> Iterator[_Work]:
    blocks = context.store.blocks(plan.key, plan.etag, chunk.start, chunk.stop)
    return ((ledger, batch) for batch in read_batches(blocks, plan, chunk, settled=ledger.state.is_settled))


async def _post(
    context: PostingContext,
    claims: Sequence[Claim],
    batches: Iterator[_Work],
    share: int,
    failed: dict[FileVersion, PipelineError] | None = None,
) -> None:
    try:
        async with (
            _claims_kept(context, claims, failed),
            context.limiter.hold(share) as permits,
            context.open_api(permits.permit) as api,
        ):
            # Twice as many as may be sent at once: while some wait for their acknowledgement, which takes about as long
            # as a call, the others are sent.
            poster = Poster(api, context.dead_letters, workers=2 * share, failed=failed, last_try=context.last_try)
            await poster.post(batches)
    except (ApiUnavailableError, PausedError) as error:
        # The next attempt waits for as long as the API asks, and must find the claim still its own.
        for claim in claims:
            await _renew(context, claim, failed, pause=error.retry_after or 0.0)
        raise


@asynccontextmanager
async def _claims_kept(
    context: PostingContext, claims: Sequence[Claim], failed: dict[FileVersion, PipelineError] | None
) -> AsyncIterator[None]:
    """Renew claims during a block; one that was lost ends the block with its ClaimLostError, or fails alone."""

    async def keep() -> None:
        while True:
            await context.sleep(LEASE_SECONDS / 3)
            for claim in claims:
                try:
                    await _renew(context, claim, failed)
                except TransientError as error:
                    log.warning("the claim could not be renewed, which is tried again: %s", error)

    async with task_group() as tasks:
        renewing = tasks.create_task(keep())
        try:
            yield
        finally:
            renewing.cancel()


async def _renew(
    context: PostingContext, claim: Claim, failed: dict[FileVersion, PipelineError] | None, *, pause: float = 0.0
) -> None:
    try:
        await asyncio.to_thread(context.claims.renew, claim, pause=pause)
    except ClaimLostError as error:
        if failed is None:
            raise
        failed[claim.file] = error


class Poster:
    """Posts the batches of one chunk, or of the chunks of several files; used once.

    Args:
        api: opened by the caller; its gate decides how many calls there are at once.
        workers: batches under way at once, from reading to acknowledgement.
        max_bytes: of all their bodies; a larger body is under way alone.
        failed: takes the files of which a batch cannot be settled, and why, and the other files go on; None: that
            ends the posting.
        last_try: nobody tries again later, so that what an unavailable API has not accepted becomes dead letters.
    """

    def __init__(
        self,
        api: CallDetailsApi,
        dead_letters: DeadLetters,
        *,
        workers: int,
        max_bytes: int = MAX_BYTES,
        failed: dict[FileVersion, PipelineError] | None = None,
        last_try: bool = False,
    ) -> None:
        self._api = api
        self._logins = api.logins
        self._dead_letters = dead_letters
        self._workers = workers
        self._queue: asyncio.Queue[_Work | None] = asyncio.Queue(workers)
        # As many as can be busy at once: every worker's dead letter, and the writing of the ledger.
        self._threads = ThreadPoolExecutor(workers + 1)
        # One thread: each that has once read keeps tens of megabytes of freed memory for itself.
        self._reader = ThreadPoolExecutor(1)
        self._ledger: GroupCommit[tuple[ChunkLedger, Settled], PipelineError | None] = GroupCommit(
            self._acknowledge, self._threads, gather_seconds=GATHER_SECONDS, enough=workers / 2
        )
        self._budget = Budget(max_bytes)
        self._failed_files = failed
        self._last_try = last_try
        self._failed: deque[tuple[ChunkLedger, Batch, Delivery]] = deque()
        self._in_a_row = 0
        self._unsettled: dict[str, tuple[ChunkLedger, int]] = {}

    async def post(self, batches: Iterator[_Work]) -> None:
        """Post batches; no more of them are read ahead than there are workers, and a quarter as many again.

        Those that are not settled yet, in order, each with its chunk; they are read in a thread.

        Raises:
            ClaimLostError: another attempt or owner works on the chunk.
            ApiUnavailableError: many batches in a row failed in a way that may pass; they are no dead letters. Not in
                the last try.
            PipelineError: any other that reading, the login, the ledger or the dead letters raise. What was
                acknowledged before stays settled.
        """
        with self._threads, self._reader:
            try:
                async with task_group() as tasks:
                    tasks.create_task(self._read(batches))
                    for _ in range(self._workers):
                        tasks.create_task(self._work())
                await self._settle_failed(0)
            finally:
                await self._ledger.close()
                await self._count_rest()

    async def _in_thread[T](self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _read(self, batches: Iterator[_Work]) -> None:
        loop, most = asyncio.get_running_loop(), max(1, self._workers // 4)
        while group := await loop.run_in_executor(self._reader, _some, batches, most):
            for chunk, batch in group:
                await self._budget.take(len(batch.body))
                await self._queue.put((chunk, batch))
        for _ in range(self._workers):
            await self._queue.put(None)

    async def _work(self) -> None:
        while (work := await self._queue.get()) is not None:
            chunk, batch = work
            self._unsettled[batch.idempotency_key] = chunk, batch.number
            delivery = await self._api.post(batch.body, batch.idempotency_key)
            if delivery.accepted or not delivery.retryable or self._last_try:
                # The API is there: what failed before are single bad batches. Or nobody will ask it again.
                self._in_a_row = 0
                await self._settle_failed(0)
                await self._settle(chunk, batch, delivery)
            else:
                await self._fail(chunk, batch, delivery)
            self._budget.give_back(len(batch.body))

    async def _fail(self, chunk: ChunkLedger, batch: Batch, delivery: Delivery) -> None:
        """Put a batch aside, unsettled, until it is known whether it is bad, or the API unavailable."""
        self._in_a_row += 1
        self._failed.append((chunk, batch, delivery))
        if self._in_a_row >= UNAVAILABLE_AFTER:
            raise ApiUnavailableError(
                f"{self._in_a_row} batches in a row were not accepted, the last one for {delivery.error}: the API is "
                "unavailable"
            )
        await self._settle_failed(_FAILED_BYTES)

    async def _settle_failed(self, most_bytes: int) -> None:
        """Make dead letters of batches put aside, until no more than so many bytes of them are left."""
        while sum(len(batch.body) for _, batch, _ in self._failed) > most_bytes:
            await self._settle(*self._failed.popleft())

    async def _settle(self, chunk: ChunkLedger, batch: Batch, delivery: Delivery) -> None:
        try:
            if not delivery.accepted:
                await self._in_thread(self._dead_letter, chunk.file, batch, delivery)
            settled = Settled(batch.number, batch.count, accepted=delivery.accepted, retries=delivery.attempts - 1)
            if error := await self._ledger.write((chunk, settled)):
                raise error
            del self._unsettled[batch.idempotency_key]
        except PipelineError as error:
            if self._failed_files is None:
                raise
            self._failed_files[chunk.file] = error

    def _dead_letter(self, file: FileVersion, batch: Batch, delivery: Delivery) -> None:
        dead_letter = DeadLetter(
            file=file,
            batch=batch.number,
            first_record=batch.first_record,
            last_record=batch.first_record + batch.count - 1,
            idempotency_key=batch.idempotency_key,
            attempts=delivery.attempts,
            last_status=delivery.status,
            error=delivery.error,
            first_failed_at=delivery.first_failed_at.isoformat() if delivery.first_failed_at else None,
        )
        self._dead_letters.save(dead_letter, batch.body)

    def _acknowledge(self, settled: list[tuple[ChunkLedger, Settled]]) -> Sequence[PipelineError | None]:
        """Settle batches by one write for each chunk; returns for each batch why that failed, or None."""
        errors: dict[ChunkLedger, PipelineError] = {}
        for chunk in dict.fromkeys(chunk for chunk, _ in settled):
            try:
                self._write(chunk, [each for other, each in settled if other is chunk])
            except PipelineError as error:
                errors[chunk] = error
        return [errors.get(chunk) for chunk, _ in settled]

    def _write(self, chunk: ChunkLedger, settled: list[Settled], retries: int = 0) -> None:
        # Read once: another thread counts on.
        now = self._api.logins
        logins, self._logins = now - self._logins, now
        chunk.acknowledge(settled, logins=logins, retries=retries)

    async def _count_rest(self) -> None:
        """Count what no acknowledgement did, such as that of a chunk whose posting has failed: logins, and posts of
        batches that are posted again later.
        """
        retries = Counter[ChunkLedger]()
        for key, (chunk, number) in self._unsettled.items():
            retries[chunk] += 0 if chunk.state.is_settled(number) else self._api.failed_attempts.get(key, 0)
        for chunk, posts in retries.items():
            if posts or self._api.logins > self._logins:
                try:
                    await self._in_thread(self._write, chunk, [], posts)
                except PipelineError as error:
                    log.warning("the receipt will not count some logins and retries: %s", error)


class Budget:
    """Up to ``size`` bytes, that one task takes and others give back, in one event loop; more is let in alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._given_back = asyncio.Event()

    async def take(self, number: int) -> None:
        """Wait until so many bytes are free, or nothing is taken."""
        while self._taken and self._taken + number > self._size:
            self._given_back.clear()
            await self._given_back.wait()
        self._taken += number

    def give_back(self, number: int) -> None:
        """Free bytes that were taken."""
        self._taken -= number
        self._given_back.set()


def _some(batches: Iterator[_Work], most: int) -> list[_Work]:
    """The next batches: at least one if there is any, and no further than memory allows."""
    group: list[_Work] = []
    size = 0
    for work in islice(batches, most):
        group.append(work)
        size += len(work[1].body)
        if size >= _READ_BYTES:
            break
    return group
