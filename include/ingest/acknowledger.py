"""Acknowledges the batches of a chunk in groups.

While one write of the ledger is under way, those that come in wait, and the next write takes them all.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from include.clients.call_details import CallDetailsApi
from include.errors import PipelineError
from include.ingest.chunk import Settled
from include.ingest.ledger import ChunkLedger

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.04
"""How long acknowledgements wait for company: a write costs as much CPU as four calls of the API, so few are better."""


class Acknowledger:
    """Collects acknowledgements, and commits all that wait in one write at a time.

    Args:
        ledger: of the chunk.
        api: its logins are counted with them.
        threads: where the ledger is written.
        enough: so many need not wait for company.
    """

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
