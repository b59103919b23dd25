"""One chunk of a plan, posted: read from S3, sent within its share of the calls, with the claim kept alive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from include.clients.call_details import CallDetailsApi, Gate
from include.clients.items import ItemTable
from include.errors import ApiUnavailableError, TransientError
from include.ingest.batches import read_batches
from include.ingest.chunk import ChunkState
from include.ingest.claim import Claim
from include.ingest.claims import LEASE_SECONDS, Claims
from include.ingest.dead_letters import DeadLetters
from include.ingest.files import FileStore
from include.ingest.ledger import ChunkLedger
from include.ingest.permits import Permits
from include.ingest.plan import Chunk, Plan
from include.ingest.poster import Poster

TASKS_AT_ONCE = 4
"""Chunks of one run that are posted at the same time."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Desk:
    """What a chunk is posted with.

    Args:
        store: the ingest bucket.
        table: the ledger table.
        claims: of that table.
        permits: of the API.
        limit: how many there are.
        dead_letters: of the bucket.
        open_api: makes the API's client, given the gate that each call has to pass.
        sleep: as ``asyncio.sleep``.
    """

    store: FileStore
    table: ItemTable
    claims: Claims
    permits: Permits
    limit: int
    dead_letters: DeadLetters
    open_api: Callable[[Gate], CallDetailsApi]
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


def share_of(limit: int, plan: Plan, chunk: Chunk) -> int:
    """How many calls at once a chunk asks for: its part of the limit, but never more than half of it.

    Files that arrive later find some left, and a chunk of few batches takes no more than these.
    """
    at_once = min(max(len(plan.chunks), 2), TASKS_AT_ONCE)
    return min(-(-limit // at_once), chunk.batches)


async def post_chunk(desk: Desk, claim: Claim, plan: Plan, chunk: Chunk) -> ChunkState:
    """Post what is left of a chunk.

    Args:
        desk: what to do it with.
        claim: of this run.
        plan: of the claim's round.
        chunk: one of the plan's.

    Returns:
        how far the chunk has come: to its end.

    Raises:
        ClaimLostError: another run or attempt has taken over; nothing more is posted.
        FileChangedError: the file is gone, or was replaced.
        PipelineError: any other of S3, the ledger, the login, the dead letters, or of waiting for permits.
    """
    await asyncio.to_thread(desk.claims.renew, claim)
    ledger = await asyncio.to_thread(
        ChunkLedger.open, desk.table, claim, chunk.index, first=chunk.first_batch, batches=chunk.batches
    )
    if ledger.state.finished:
        return ledger.state
    share = share_of(desk.limit, plan, chunk)
    blocks = desk.store.blocks(plan.key, plan.etag, chunk.start, chunk.stop)
    try:
        async with _kept(desk, claim), desk.permits.hold(share) as held, desk.open_api(held.permit) as api:
            # Twice as many as may be sent at once: while some wait for their acknowledgement, which takes about as long
            # as a call, the others are sent.
            poster = Poster(api, ledger, desk.dead_letters, file=plan.file, workers=2 * share)
            return await poster.post(read_batches(blocks, plan, chunk, settled=ledger.state.is_settled))
    except ApiUnavailableError as error:
        # The next attempt waits for as long as the API asks, and is to find the claim still its own.
        await asyncio.to_thread(desk.claims.renew, claim, pause=error.retry_after or 0.0)
        raise


@asynccontextmanager
async def _kept(desk: Desk, claim: Claim) -> AsyncIterator[None]:
    """Renew the claim during a block; one that was lost ends the block.

    Raises:
        ClaimLostError: another run has taken over.
    """
    renewing: asyncio.Task[None] | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            renewing = tasks.create_task(_renew(desk, claim))
            try:
                yield
            finally:
                renewing.cancel()
    except ExceptionGroup as group:
        # Retry policy, log and alert are to see the error itself.
        error = group.exceptions[0]
        raise error from error.__cause__


async def _renew(desk: Desk, claim: Claim) -> None:
    while True:
        await desk.sleep(LEASE_SECONDS / 3)
        try:
            await asyncio.to_thread(desk.claims.renew, claim)
        except TransientError as error:
            log.warning("the claim could not be renewed, which is tried again: %s", error)
