"""The steps of a run: save its plan, archive a slice of its clients, account for all of them, alert once."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Self

from include.alerts import Alert, RunRef, Section, Severity
from include.archive.keys import manifest_key, plan_key
from include.archive.ledger import sha256
from include.archive.manifests import record_run
from include.archive.models import Client, ClientOutcome, Manifest, Plan, Result, read_response
from include.archive.store import ArchiveStore, lock_until
from include.clients.s3 import get_json, put_json, split_uri
from include.concurrency import task_group
from include.errors import PipelineError, StorageRefusedError, TransientError
from include.mapped_work import SAVE_EVERY_SECONDS, MappedWork, OutcomeFile, Slice, raise_for_failures

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.archive.ledger import Newest
    from include.clients.dex import DexApi
    from include.clients.signed import SignedClient

log = logging.getLogger(__name__)

MAX_PAUSE_SECONDS = 60.0
"""Longest pause of a task that a ``Retry-After`` causes; the refused client itself waits as long as asked."""

MAX_PAUSES = 3
"""Pauses in a row, with no success between them, after which a task stops asking and leaves the rest to its retry."""

_SPREAD_SECONDS = 5.0
_THREADS = 4
_LARGE_BYTES = 1024 * 1024
"""From this size on a response is checked in a thread: it takes so long that the other clients would notice."""

NOT_ASKED = "not asked: the DEX API kept asking to wait"
"""Error of a client that a retry of its task will ask for."""


def save_plan(s3: S3Client, bucket: str, plan: Plan) -> str:
    """Write a run's plan; returns its ``s3://`` URI."""
    key = plan_key(plan.day, plan.run_id, datetime.now(UTC))
    put_json(s3, bucket, key, plan.to_document())
    return f"s3://{bucket}/{key}"


class ArchiveRun:
    """One planned run: its plan, its outcomes and its evidence in the archive bucket."""

    def __init__(self, s3: S3Client, bucket: str, key: str, plan: Plan) -> None:
        self.plan = plan
        self._lock = lock_until(*plan.lock, datetime.now(UTC))
        self._s3 = s3
        self._bucket = bucket
        self._key = key

    @classmethod
    def load(cls, uri: str, s3: S3Client) -> Self:
        """The run whose plan :func:`save_plan` wrote; raises StorageRefusedError if that is gone."""
        bucket, key = split_uri(uri)
        document = get_json(s3, bucket, key)
        if document is None:
            raise StorageRefusedError(
                f"the run's plan {uri} is gone (plans expire after 30 days); clear list_clients to plan the run again"
            )
        return cls(s3, bucket, key, Plan.from_document(document))

    def archive_slice(
        self,
        piece: Slice,
        dex: DexApi,
        signed: SignedClient,
        *,
        clear_number: int,
        max_pause: float = MAX_PAUSE_SECONDS,
    ) -> None:
        """Archive the clients of one slice of the plan and keep an outcome for each.

        Neither the API nor the client of S3 is opened yet. Raises as :func:`raise_for_failures`, with the longest wait
        that the API asked for.
        """
        plan = self.plan
        archiver = Archiver(
            source=dex,
            store=ArchiveStore(signed, self._bucket, self._lock),
            ledger=self._work(clear_number).file(piece),
            day=plan.day,
            force=plan.force,
            concurrency=min(plan.concurrency, piece.size),
            max_pause=max_pause,
        )

        async def archive() -> list[ClientOutcome]:
            async with dex, signed:
                return await archiver.archive(plan.clients[piece.start : piece.stop])

        outcomes = asyncio.run(archive())
        failures = [outcome for outcome in outcomes if outcome.failed]
        raise_for_failures(
            failures,
            f"{len(failures)} of {len(outcomes)} clients failed",
            what="client",
            retry_after=max((each.retry_after for each in failures if each.retry_after is not None), default=None),
        )

    def account(
        self,
        *,
        clear_number: int,
        succeeded: Iterable[int],
        why_no_outcome: Callable[[int], str | None],
        newest: Callable[[], Newest] | None = None,
    ) -> tuple[str, Manifest]:
        """Account for every client of the plan: in the run's manifest, the ledger, and the day's manifest.

        Done again, it finds what is there. See :meth:`include.mapped_work.MappedWork.account` and :func:`record_run`.
        Returns the run's manifest, and the key to look at: the day's manifest, unless that lacks clients of the run, as
        it does those without a usable id.
        """
        plan = self.plan
        outcomes = self._work(clear_number).account(
            [client.id for client in plan.clients],
            planned_at=plan.clear_number,
            succeeded=succeeded,
            why_no_outcome=why_no_outcome,
            failure=lambda client_id, reason: ClientOutcome(client_id, Result.FAILED, error=reason),
        )
        manifest = Manifest(plan, outcomes)
        entry = record_run(self._s3, self._bucket, manifest.to_document(), lock=self._lock, newest=newest)
        place = f"s3://{self._bucket}/{entry.manifest}"
        # Its own digest, which proves all entries before it as well: to be compared with what the bucket has later.
        log.info("entry %d of the ledger has sha256 %s: %s", entry.number, sha256(entry.to_bytes()), place)
        return entry.manifest if plan.unusable else manifest_key(plan.day), manifest

    def _work(self, clear_number: int) -> MappedWork[ClientOutcome]:
        return MappedWork(ClientOutcome, self._s3, self._bucket, self._key, self.plan.slices, clear_number)


@dataclass
class Archiver:
    """Archives clients of one day, several at once, each with an outcome of its own; to be used once.

    Outcomes are saved now and then, one save at a time, and what is told of them is logged with them: a line of its own
    in a task's log costs as much CPU as a quarter of the client that it is about.

    Args:
        ledger: keeps outcomes for a retry and for the manifest.
        force: an empty response may replace a non-empty archive.
        max_pause: seconds; the longest wait of a task when a response asks for one.
        save_every: seconds.
    """

    source: DexApi
    store: ArchiveStore
    ledger: OutcomeFile[ClientOutcome]
    day: date
    force: bool
    concurrency: int
    max_pause: float = MAX_PAUSE_SECONDS
    save_every: float = SAVE_EVERY_SECONDS

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS)
        self._backoff = Backoff(self.max_pause)
        self._settled: dict[int, ClientOutcome] = {}
        self._told: list[str] = []
        self._saving = asyncio.Lock()
        self._saved_at = time.monotonic()

    async def archive(self, clients: Sequence[Client]) -> list[ClientOutcome]:
        """An outcome per client, in their order: archives all that no earlier attempt settled, one stops no other."""
        with self._threads:
            earlier = await self._in_thread(self.ledger.resume)
            self._settled = {id_: outcome for id_, outcome in earlier.items() if not outcome.retryable}
            waiting = iter([client for client in clients if client.id not in self._settled])
            try:
                async with task_group() as workers:
                    for _ in range(min(self.concurrency, len(clients))):
                        workers.create_task(self._work(waiting))
            finally:
                await self._save()
        return [self._settled[client.id] for client in clients]

    def _in_thread[T](self, call: Callable[..., T], *arguments: object) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _work(self, waiting: Iterator[Client]) -> None:
        for client in waiting:
            if (began := await self._backoff.wait()) is not None:
                outcome = await self._archive_one(client)
                self._backoff.note(outcome, began)
            else:
                outcome = ClientOutcome(client.id, Result.FAILED, error=NOT_ASKED, retryable=True)
            self._settled[client.id] = outcome
            if not self._saving.locked() and time.monotonic() - self._saved_at >= self.save_every:
                await self._save()

    async def _save(self) -> None:
        async with self._saving:
            if self._told:
                log.info("%s", "\n".join(self._told))
                self._told.clear()
            await self._in_thread(self.ledger.save, list(self._settled.values()))
            self._saved_at = time.monotonic()

    async def _archive_one(self, client: Client) -> ClientOutcome:
        try:
            body = await self.source.trigger_response(client.id, self.day)
            if len(body) < _LARGE_BYTES:
                response = read_response(body)
            else:
                response = await self._in_thread(read_response, body)
            kept = await self.store.save(client.id, self.day, response, force=self.force)
        except PipelineError as error:
            log.warning("client %d (%s) failed: %s", client.id, client.name, error)
            return ClientOutcome(
                client.id,
                Result.FAILED,
                error=str(error),
                retryable=isinstance(error, TransientError),
                retry_after=error.retry_after if isinstance(error, TransientError) else None,
            )
        except Exception as error:
            log.exception("unexpected failure of client %d", client.id)
            reason = f"unexpected {type(error).__name__}, see the log"
            return ClientOutcome(client.id, Result.FAILED, error=reason, retryable=True)
        self._told.append(
            f"client {client.id} ({client.name}) {kept.outcome}: {kept.key}, {kept.bytes} bytes, "
            f"sha256 {kept.sha256}, version {kept.version_id}"
        )
        return kept


@dataclass
class Backoff:
    """Makes all clients of a task wait when a response asked one of them to: an API's limit is for all calls."""

    max_pause: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    def __post_init__(self) -> None:
        self._until, self._asked, self._pauses = 0.0, 0.0, 0

    async def wait(self) -> float | None:
        """Wait until the API may be asked, which is now; None when it has asked for pauses too often."""
        # Again after each sleep: a call that was on its way may have been told to wait longer. Not all return at once:
        # the first that is refused keeps the others waiting.
        while self._pauses <= MAX_PAUSES and (left := self._until - self.clock()) > 0:
            spread = min(self._asked, _SPREAD_SECONDS)
            await self.sleep(left + random.uniform(0.0, spread))  # noqa: S311 - spreads load, guards nothing
        return self.clock() if self._pauses <= MAX_PAUSES else None

    def note(self, outcome: ClientOutcome, began: float) -> None:
        """Learn from the outcome of a call that began at this time of :meth:`wait`."""
        now = self.clock()
        if outcome.retry_after is not None:
            # Those that began before the last pause was over say nothing about what came of it.
            self._pauses += began >= self._until
            self._asked = min(outcome.retry_after, self.max_pause)
            self._until = max(self._until, now + self._asked)
        elif not outcome.failed:
            self._pauses = 0


LIST_TASK = "list_clients"
ARCHIVE_TASK = "archive_client"
SECTION = Section.ARCHIVE_RUN


def digest(manifest: Manifest, run: RunRef, *, uri: str) -> Alert | None:
    """The alert that the run's end calls for: failed clients, no clients at all, or None."""
    plan, counts = manifest.plan, manifest.counts
    facts = [f"trigger date: {plan.day}", f"manifest: {uri}"]
    if not counts["total_clients"]:
        headline = f"no client to archive for {plan.day}: the query selects none"
        return run.alert(Severity.WARNING, headline, [*facts, f"log: {run.log_url(LIST_TASK, None)}"], section=SECTION)
    if not counts["failed_archives"]:
        return None
    failures = [
        run.failure(f"client {client.id} ({client.name})", outcome.error, ARCHIVE_TASK, index)
        for index, piece in enumerate(plan.slices)
        for client, outcome in zip(
            plan.clients[piece.start : piece.stop], manifest.outcomes[piece.start : piece.stop], strict=True
        )
        if outcome.failed
    ]
    failures += [run.failure(f"a client ({name})", why, LIST_TASK) for name, why in plan.unusable]
    headline = f"{counts['failed_archives']} of {counts['total_clients']} clients not archived for {plan.day}"
    return run.alert(Severity.ERROR, headline, facts, failures, section=SECTION)


def not_listed(run: RunRef, *, reason: str) -> Alert:
    """The alert of a run that never had clients to work on."""
    failure = run.failure("the list of clients", reason, LIST_TASK)
    return run.alert(Severity.ERROR, "no client was archived: listing them failed", (), [failure], section=SECTION)
