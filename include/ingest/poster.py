"""Posts the batches of a chunk: so many at once, each acknowledged in the ledger before its worker takes the next.

Acknowledgements are committed in groups: while one write of the ledger is under way, those that come in wait, and the
next write takes them all. A task that dies leaves no more batches posted and not acknowledged than it has workers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from include.clients.call_details import CallDetailsApi
from include.clients.delivery import Delivery
from include.errors import PipelineError
from include.ingest.budget import Budget
from include.ingest.chunk import ChunkState, Settled
from include.ingest.claim import FileVersion
from include.ingest.dead_letters import DeadLetter, DeadLetters
from include.ingest.ledger import ChunkLedger

log = logging.getLogger(__name__)

MAX_BYTES = 128 * 1024 * 1024
"""Of bodies in memory: several tasks share a machine. A batch of common size has some 50 KB."""

GATHER_SECONDS = 0.025
"""How long acknowledgements wait for company: a write costs more than a call of the API, so few are better."""


class Batch(Protocol):
    """What the poster has to know of a batch."""

    @property
    def number(self) -> int:
        """From 0 through the whole file."""

    @property
    def first_record(self) -> int:
        """Number of its first record, from 1 through the whole file."""

    @property
    def count(self) -> int:
        """How many records it holds."""

    @property
    def body(self) -> bytes:
        """The request's body."""

    @property
    def idempotency_key(self) -> str:
        """The same for the same batch, always."""


class Poster:
    """Posts one chunk.

    Args:
        api: opened by the caller; its gate decides how many calls there are at once.
        ledger: of the chunk.
        dead_letters: where batches go that cannot be delivered.
        file: the file version that the chunk is of.
        workers: how many batches are under way at once, from reading to acknowledgement.
        max_bytes: of all bodies that are; a body that is larger is under way alone.
    """

    def __init__(
        self,
        api: CallDetailsApi,
        ledger: ChunkLedger,
        dead_letters: DeadLetters,
        *,
        file: FileVersion,
        workers: int,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._file = file
        self._workers = workers
        self._max_bytes = max_bytes

    async def post(self, batches: Iterator[Batch]) -> ChunkState:
        """Post batches; no more of them are read ahead than there are workers.

        Args:
            batches: those of the chunk that are not settled yet, in order. Read in a thread, one after the other.

        Returns:
            how far the chunk has come.

        Raises:
            ClaimLostError: another attempt or owner works on the chunk.
            PipelineError: any other that reading, the login, the ledger or the dead letters raise. What was
                acknowledged before stays settled.
        """
        queue: asyncio.Queue[Batch | None] = asyncio.Queue(self._workers)
        budget = Budget(self._max_bytes)
        # As many as can be busy at once: every worker's dead letter, the reading, and the writing of the ledger.
        with ThreadPoolExecutor(self._workers + 2) as threads:
            desk = _Desk(self._ledger, self._api, threads, enough=self._workers / 2)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._read(batches, queue, budget, threads))
                    for _ in range(self._workers):
                        tasks.create_task(self._work(queue, budget, desk, threads))
            except ExceptionGroup as group:
                # Retry policy, log and alert are to see the error itself: its type decides, its text tells.
                error = group.exceptions[0]
                raise error from error.__cause__
            finally:
                await desk.close()
        return self._ledger.state

    async def _read(
        self, batches: Iterator[Batch], queue: asyncio.Queue[Batch | None], budget: Budget, threads: ThreadPoolExecutor
    ) -> None:
        loop = asyncio.get_running_loop()
        while (batch := await loop.run_in_executor(threads, next, batches, None)) is not None:
            await budget.take(len(batch.body))
            await queue.put(batch)
        for _ in range(self._workers):
            await queue.put(None)

    async def _work(
        self, queue: asyncio.Queue[Batch | None], budget: Budget, desk: _Desk, threads: ThreadPoolExecutor
    ) -> None:
        while (batch := await queue.get()) is not None:
            delivery = await self._api.post(batch.body, batch.idempotency_key)
            if not delivery.accepted:
                await asyncio.get_running_loop().run_in_executor(threads, self._bury, batch, delivery)
            await desk.acknowledge(
                Settled(batch.number, batch.count, accepted=delivery.accepted, retries=delivery.attempts - 1)
            )
            budget.give_back(len(batch.body))

    def _bury(self, batch: Batch, delivery: Delivery) -> None:
        letter = DeadLetter(
            file=self._file,
            batch=batch.number,
            first_record=batch.first_record,
            last_record=batch.first_record + batch.count - 1,
            idempotency_key=batch.idempotency_key,
            attempts=delivery.attempts,
            last_status=delivery.status,
            error=delivery.error,
            first_failed_at=delivery.first_failed_at.isoformat() if delivery.first_failed_at else None,
        )
        self._dead_letters.keep(letter, batch.body)


class _Desk:
    """Collects acknowledgements, and commits all that wait in one write at a time."""

    def __init__(self, ledger: ChunkLedger, api: CallDetailsApi, threads: ThreadPoolExecutor, *, enough: float) -> None:
        self._ledger = ledger
        self._api = api
        self._threads = threads
        self._enough = enough
        self._logins = api.logins
        self._waiting: list[tuple[Settled, asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def acknowledge(self, settled: Settled) -> None:
        """Return when the batch is settled in the ledger."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((settled, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        await done

    async def close(self) -> None:
        """Let what was posted be acknowledged, and logins that led to nothing be counted, though posting has failed."""
        if self._committing is not None:
            await self._committing
        if self._api.logins > self._logins:
            try:
                await self._write([])
            except PipelineError as error:
                log.warning("the receipt will not count some logins: %s", error)

    async def _commit(self) -> None:
        try:
            while self._waiting:
                if len(self._waiting) < self._enough:
                    await asyncio.sleep(GATHER_SECONDS)
                group, self._waiting = self._waiting, []
                try:
                    await self._write([settled for settled, _ in group])
                except Exception as error:  # noqa: BLE001 - whoever waits raises it
                    for _, done in group:
                        if not done.done():
                            done.set_exception(error)
                else:
                    for _, done in group:
                        if not done.done():
                            done.set_result(None)
        finally:
            self._committing = None

    async def _write(self, settled: list[Settled]) -> None:
        logins, self._logins = self._api.logins - self._logins, self._api.logins
        acknowledge = partial(self._ledger.acknowledge, settled, logins=logins)
        await asyncio.get_running_loop().run_in_executor(self._threads, acknowledge)
