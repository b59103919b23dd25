"""Archive the clients of one task: fetched concurrently, each with an outcome of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from include.archive.answer import read_answer
from include.archive.outcomes import Outcome, OutcomeFile, Result
from include.archive.pace import Pace
from include.archive.roster import Client
from include.archive.store import ArchiveStore
from include.errors import PipelineError, TransientError

NOT_ASKED = "not asked: the DEX API kept asking to wait"
"""Error of a client that a retry of its task will ask for."""

SAVE_EVERY_SECONDS = 5.0
"""A killed task repeats at most what it did since its last save."""

log = logging.getLogger(__name__)


class TriggerSource(Protocol):
    """What answers for a client and a day; :class:`include.clients.dex.DexApi` does."""

    async def trigger_response(self, client_id: int, day: date) -> bytes:
        """The response body."""


@dataclass(frozen=True)
class Archiver:
    """Archives clients of one day.

    Args:
        source: open for the whole call.
        ledger: keeps outcomes for a retry and for the manifest.
        force: an empty answer may replace a non-empty archive.
        concurrency: how many clients are worked on at once.
    """

    source: TriggerSource
    store: ArchiveStore
    ledger: OutcomeFile
    day: date
    force: bool
    concurrency: int

    async def archive(self, clients: Sequence[Client]) -> list[Outcome]:
        """Archive every client that no earlier attempt settled; one client's failure stops no other.

        Returns:
            an outcome per client, in the clients' order.

        Raises:
            StorageUnavailableError: the ledger cannot be read or written; a retry may work.
            StorageRefusedError: the same, and it will not.
        """
        with ThreadPoolExecutor(self.concurrency) as threads:
            loop = asyncio.get_running_loop()
            earlier = await loop.run_in_executor(threads, self.ledger.resume)
            settled = {id_: outcome for id_, outcome in earlier.items() if not outcome.retryable}
            waiting = iter([client for client in clients if client.id not in settled])
            pace = Pace()
            desk = _Desk(self.ledger, threads, settled)
            try:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(min(self.concurrency, len(clients))):
                        workers.create_task(self._work(waiting, pace, desk))
            except ExceptionGroup as group:
                # Retry policy, log and alert are to see the error itself: its type decides, its text tells.
                error = group.exceptions[0]
                raise error from error.__cause__
            finally:
                await desk.save()
        return [settled[client.id] for client in clients]

    async def _work(self, waiting: Iterator[Client], pace: Pace, desk: _Desk) -> None:
        for client in waiting:
            if await pace.may_ask():
                outcome = await self._archive_one(client, desk.threads)
                pace.heed(outcome)
            else:
                outcome = Outcome(client.id, Result.FAILED, error=NOT_ASKED, retryable=True)
            await desk.note(outcome)

    async def _archive_one(self, client: Client, threads: ThreadPoolExecutor) -> Outcome:
        try:
            body = await self.source.trigger_response(client.id, self.day)
            return await asyncio.get_running_loop().run_in_executor(threads, self._keep, client.id, body)
        except PipelineError as error:
            return Outcome(
                client.id,
                Result.FAILED,
                error=str(error),
                retryable=isinstance(error, TransientError),
                retry_after=error.retry_after if isinstance(error, TransientError) else None,
            )
        except Exception as error:
            log.exception("unexpected failure of client %d", client.id)
            return Outcome(
                client.id, Result.FAILED, error=f"unexpected {type(error).__name__}, see the log", retryable=True
            )

    def _keep(self, client_id: int, body: bytes) -> Outcome:
        return self.store.keep(client_id, self.day, read_answer(body), force=self.force)


class _Desk:
    """Collects outcomes and saves them now and then, one save at a time."""

    def __init__(self, ledger: OutcomeFile, threads: ThreadPoolExecutor, settled: dict[int, Outcome]) -> None:
        self.threads = threads
        self._ledger = ledger
        self._settled = settled
        self._saving = asyncio.Lock()
        self._saved_at = time.monotonic()

    async def note(self, outcome: Outcome) -> None:
        self._settled[outcome.client_id] = outcome
        if not self._saving.locked() and time.monotonic() - self._saved_at >= SAVE_EVERY_SECONDS:
            await self.save()

    async def save(self) -> None:
        async with self._saving:
            snapshot = list(self._settled.values())
            await asyncio.get_running_loop().run_in_executor(self.threads, self._ledger.save, snapshot)
            self._saved_at = time.monotonic()
