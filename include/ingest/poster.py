"""Posts the batches of a chunk: so many at once, each acknowledged in the ledger before its worker takes the next.

A task that dies leaves no more batches posted and not acknowledged than it has workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Protocol

from include.clients.call_details import CallDetailsApi
from include.clients.delivery import Delivery
from include.ingest.acknowledger import Acknowledger
from include.ingest.budget import Budget
from include.ingest.chunk import ChunkState, Settled
from include.ingest.claim import FileVersion
from include.ingest.dead_letters import DeadLetter, DeadLetters
from include.ingest.ledger import ChunkLedger

MAX_BYTES = 128 * 1024 * 1024
"""Of bodies in memory: several tasks share a machine. A batch of common size has some 50 KB."""

_READ_BYTES = 1024 * 1024
"""Of bodies that are made at once: if it were one, posting and reading would wait for each other at every batch."""


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
        """Post batches; no more of them are read ahead than there are workers, and a quarter as many again.

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
            desk = Acknowledger(self._ledger, self._api, threads, enough=self._workers / 2)
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
        some = partial(_some, batches, max(1, self._workers // 4))
        while group := await loop.run_in_executor(threads, some):
            for batch in group:
                await budget.take(len(batch.body))
                await queue.put(batch)
        for _ in range(self._workers):
            await queue.put(None)

    async def _work(
        self, queue: asyncio.Queue[Batch | None], budget: Budget, desk: Acknowledger, threads: ThreadPoolExecutor
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


def _some(batches: Iterator[Batch], most: int) -> list[Batch]:
    """The next batches: at least one if there is any, and no further than memory allows."""
    group: list[Batch] = []
    size = 0
    for batch in islice(batches, most):
        group.append(batch)
        size += len(batch.body)
        if size >= _READ_BYTES:
            break
    return group
