"""The steps of a run: keep its plan, archive a slice of it, account for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from include.archive.archiver import Archiver
from include.archive.keys import manifest_key, outcomes_key, plan_key
from include.archive.manifest import Manifest, account
from include.archive.outcomes import Outcome, OutcomeFile, Result, read_outcomes
from include.archive.plan import Plan
from include.archive.store import ArchiveStore
from include.clients.s3 import get_json, put_json, split_place
from include.errors import ClientsFailedError, RetryableClientsError, StorageRefusedError
from include.outcomes import Progress
from include.slices import Slice

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.clients.dex import DexApi

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
            clear_number: see :class:`~include.archive.outcomes.OutcomeFile`.

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
