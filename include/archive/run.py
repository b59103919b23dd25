"""The steps of a run: keep its plan, archive a slice of it, account for it.

Archive the clients of one task: fetched concurrently, each with an outcome of its own.

How fast a task asks: a limit that an API sets for one call is a limit for all of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Protocol, Self

from include.archive.keys import manifest_key, outcomes_key, plan_key
from include.archive.models import (
    Client,
    Manifest,
    Outcome,
    OutcomeFile,
    Plan,
    Result,
    account,
    read_answer,
    read_outcomes,
)
from include.archive.store import ArchiveStore
from include.clients.s3 import get_json, put_json, split_place
from include.errors import ClientsFailedError, PipelineError, RetryableClientsError, StorageRefusedError, TransientError
from include.mapped_work import Progress, Slice

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.clients.dex import DexApi

log = logging.getLogger(__name__)

MAX_PAUSE_SECONDS = 60.0
"""Longest pause of a task that an answer's ``Retry-After`` causes; the refused client itself waits as long as asked."""

MAX_PAUSES = 3
"""Pauses in a row, with no success between them, after which a task stops asking and leaves the rest to its retry."""


class Pace:
    """Makes all clients of a task wait when an answer asked one of them to."""

    def __init__(self) -> None:
        self._ask_again_at = 0.0
        self._pauses = 0

    async def may_ask(self) -> bool:
        """Wait until the API may be asked; False when it has asked for pauses too often."""
        # Again after each sleep: a call that was on its way may have been told to wait longer.
        while self._pauses <= MAX_PAUSES and (left := self._ask_again_at - time.monotonic()) > 0:
            await asyncio.sleep(left)
        return self._pauses <= MAX_PAUSES

    def heed(self, outcome: Outcome) -> None:
        """Learn from an answer."""
        now = time.monotonic()
        if outcome.retry_after is not None:
            self._pauses += now >= self._ask_again_at
            self._ask_again_at = max(self._ask_again_at, now + min(outcome.retry_after, MAX_PAUSE_SECONDS))
        elif outcome.outcome is not Result.FAILED:
            self._pauses = 0


NOT_ASKED = "not asked: the DEX API kept asking to wait"
"""Error of a client that a retry of its task will ask for."""

SAVE_EVERY_SECONDS = 5.0
"""A killed task repeats at most what it did since its last save."""


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


_SHOWN = 3
_READERS = 8


def keep_plan(s3: S3Client, bucket: str, plan: Plan) -> str:
    """Keep a run's plan in S3.

    Returns:
        where it lies, ``s3://bucket/key``: all that the run's tasks need to be told.

    Raises:
        StorageUnavailableError: a retry may work.
        StorageRefusedError: no bucket or no permission.
    """
    key = plan_key(plan.day, plan.run_id)
    put_json(s3, bucket, key, plan.to_document())
    return f"s3://{bucket}/{key}"


class ArchiveRun:
    """One planned run: its plan, its outcomes and its evidence in the archive bucket."""

    def __init__(self, s3: S3Client, bucket: str, plan_at: str, plan: Plan) -> None:
        self.plan = plan
        self._s3 = s3
        self._bucket = bucket
        self._plan_at = plan_at

    @classmethod
    def at(cls, place: str, s3: S3Client) -> Self:
        """The run whose plan lies at ``place``, as :func:`keep_plan` returned it.

        Args:
            place: ``s3://bucket/key`` of the plan.
            s3: a boto3 client; its connection pool should hold a connection for each call at once.

        Raises:
            StorageUnavailableError: a retry may work.
            StorageRefusedError: the plan is gone, or S3 refused.
        """
        bucket, key = split_place(place)
        document = get_json(s3, bucket, key)
        if document is None:
            raise StorageRefusedError(
                f"the run's plan {place} is gone (plans expire after 30 days); clear list_clients to plan the run again"
            )
        return cls(s3, bucket, key, Plan.from_document(document))

    def archive_slice(self, piece: Slice, dex: DexApi, *, clear_number: int) -> dict[str, int]:
        """Archive the clients of one slice and keep an outcome for each.

        Args:
            piece: a slice of the plan.
            dex: where to ask; not yet opened.
            clear_number: see :class:`~include.archive.models.OutcomeFile`.

        Returns:
            how many clients ended in which way.

        Raises:
            RetryableClientsError: some failed and a retry may mend at least one; it asks for the longest wait that the
                API asked for.
            ClientsFailedError: some failed for good.
        """
        plan = self.plan
        archiver = Archiver(
            source=dex,
            store=ArchiveStore(self._s3, self._bucket),
            ledger=OutcomeFile(
                self._s3, self._bucket, outcomes_key(self._plan_at, piece.start), clear_number=clear_number
            ),
            day=plan.day,
            force=plan.force,
            concurrency=min(plan.concurrency, piece.size),
        )

        async def archive() -> list[Outcome]:
            async with dex:
                return await archiver.archive(plan.clients[piece.start : piece.stop])

        outcomes = asyncio.run(archive())
        _raise_for_failures(outcomes)
        return {result.value: sum(outcome.outcome is result for outcome in outcomes) for result in Result}

    def account(
        self, *, clear_number: int, succeeded: Iterable[int], why_no_outcome: Callable[[int], str | None]
    ) -> tuple[str, Manifest]:
        """Account for every client of the plan and keep the day's manifest.

        Args:
            clear_number: how often the run has been cleared by now.
            succeeded: indexes of the slices whose tasks succeeded.
            why_no_outcome: what is known, by slice index, of a task that left no outcomes.

        Returns:
            the manifest's key and the manifest.

        Raises:
            StorageUnavailableError: a retry may work.
            StorageRefusedError: S3 refused.
        """
        plan = self.plan
        progress = Progress(clear_number, plan.clear_number, frozenset(succeeded))

        def read(index: int) -> list[Outcome]:
            key = outcomes_key(self._plan_at, plan.slices[index].start)
            return read_outcomes(self._s3, self._bucket, key, index=index, progress=progress)

        with ThreadPoolExecutor(_READERS) as readers:
            found = list(readers.map(read, range(len(plan.slices))))
        manifest = account(plan, found, why_no_outcome=why_no_outcome)
        key = manifest_key(plan.day)
        put_json(self._s3, self._bucket, key, manifest.to_document())
        return key, manifest


def _raise_for_failures(outcomes: Sequence[Outcome]) -> None:
    failures = [outcome for outcome in outcomes if outcome.outcome is Result.FAILED]
    if not failures:
        return
    shown = "; ".join(f"client {failure.client_id}: {failure.error}" for failure in failures[:_SHOWN])
    more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
    message = f"{len(failures)} of {len(outcomes)} clients failed: {shown}{more}"
    if any(failure.retryable for failure in failures):
        waits = [failure.retry_after for failure in failures if failure.retry_after is not None]
        raise RetryableClientsError(message, retry_after=max(waits, default=None))
    raise ClientsFailedError(message)
