"""The first step of a run: which file version it is about, whether it has it, and how it is cut."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from include.errors import FileChangedError, FileHeldError, InvalidInputError
from include.ingest.batches import timestamp
from include.ingest.claim import Claim, Done, FileVersion, Held, Terms
from include.ingest.claims import Claims
from include.ingest.files import FileStore, StoredFile
from include.ingest.identity import file_version
from include.ingest.keys import INCOMING, failed_key, is_dropped_file, origin, plan_key, processing_key, receipt_key
from include.ingest.plan import Plan
from include.ingest.planner import make_plan

log = logging.getLogger(__name__)


def resolve(store: FileStore, key: str, etag: str | None) -> FileVersion:
    """The version that a run's params mean.

    Args:
        store: the bucket.
        key: where the file was dropped, or where it has been moved to.
        etag: which version of a dropped file; the newest one if it is not told.

    Raises:
        InvalidInputError: there is no such file.
        StorageUnavailableError: a retry may work.
        StorageRefusedError: it will not.
    """
    moved = origin(store.bucket, key)
    if moved is not None:
        return moved
    if not is_dropped_file(key):
        raise InvalidInputError(f"param key: {key!r} is no file under {INCOMING}, nor one that was moved from there")
    if etag:
        return file_version(store.bucket, key, etag)
    there = store.look(key)
    newest = there.etag if there else store.last_etag(key)
    if newest is None:
        raise InvalidInputError(f"param key: there is no {key!r} in bucket {store.bucket}, nor was there lately")
    return file_version(store.bucket, key, newest)


def find(store: FileStore, file: FileVersion) -> StoredFile | None:
    """Where a version lies now, or None if it is nowhere.

    Raises:
        StorageUnavailableError: a retry may work.
        StorageRefusedError: it will not.
    """
    for place in _places(store, file):
        found = store.look(place)
        # Under its own key lies whatever was dropped there last; all others tell the version.
        if found is not None and (place != file.key or found.etag.strip('"') == file.etag):
            return found
    return None


class Planning:
    """Claims a file version for a run, and plans it.

    Args:
        store: the bucket.
        claims: of the ledger table.
        records_per_batch: of files that were never planned before.
        now: the time, aware.
    """

    def __init__(
        self,
        store: FileStore,
        claims: Claims,
        *,
        records_per_batch: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._claims = claims
        self._records_per_batch = records_per_batch
        self._now = now

    def claim(self, file: FileVersion, owner: str, *, force: bool) -> Claim | Done:
        """Claim the version, or learn that it is done.

        Args:
            file: the version.
            owner: the run.
            force: post it again if it is done.

        Raises:
            FileHeldError: another run has it; a retry may work.
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        answer = self._claims.claim(file, owner, force=force, begun=True)
        if isinstance(answer, Held):
            until = datetime.fromtimestamp(answer.until, UTC)
            raise FileHeldError(
                f"run {answer.owner} works on {file.key} ({file.etag}), at least until {until:%H:%M} UTC"
            )
        return answer

    def plan(self, claim: Claim) -> Plan:
        """The plan of the claim's round: made once, and then the same for every attempt and every later owner.

        Raises:
            InvalidFileError: the file cannot be read, whoever tries.
            InvalidInputError: it cannot be cut as the settings want it.
            FileChangedError: it is gone, or was replaced.
            ClaimLostError: another run has taken over.
            TransientError: S3 or DynamoDB failed; a retry may work.
            PermanentError: they refused.
        """
        stored = find(self._store, claim.file)
        if stored is None:
            raise FileChangedError(
                f"{claim.file.key} ({claim.file.etag}) is nowhere in bucket {self._store.bucket}: drop it again and "
                "clear this run"
            )
        if stored.key == claim.file.key:
            stored = self._store.move(stored, processing_key(claim.file))
        known = known_plan(self._store, claim)
        if known is not None and (known.key, known.etag) == (stored.key, stored.etag):
            return known
        # The same bytes at another place keep their chunks.
        plan = self._made(claim, stored) if known is None else replace(known, key=stored.key, etag=stored.etag)
        place = plan_key(claim.file, claim.round)
        self._store.keep_paper(place, plan.to_document())
        self._claims.note_plan(claim, place)
        return plan

    def _made(self, claim: Claim, stored: StoredFile) -> Plan:
        terms = claim.terms or Terms(self._records_per_batch, timestamp(self._now()))
        plan = make_plan(
            claim.file,
            self._store.blocks(stored.key, stored.etag, 0, stored.size),
            key=stored.key,
            etag=stored.etag,
            size=stored.size,
            records_per_batch=terms.records_per_batch,
            timestamp=terms.timestamp,
        )
        # Only now: terms by which the file cannot be cut must not bind those who come later. And before the plan is
        # kept: whoever was faster has planned by other terms, and may have posted.
        fixed = self._claims.fix(claim, terms)
        return plan if fixed.terms == terms else self._made(fixed, stored)


def read_plan(store: FileStore, claim: Claim) -> Plan:
    """The plan that was noted in a claim.

    Raises:
        FileChangedError: it is gone.
        StorageUnavailableError: a retry may work.
        StorageRefusedError: it will not.
    """
    plan = known_plan(store, claim)
    if plan is None:
        raise FileChangedError(f"the plan of {claim.file.key} ({claim.file.etag}) is gone: clear the task 'plan'")
    return plan


def known_plan(store: FileStore, claim: Claim) -> Plan | None:
    """The plan that was noted in a claim, or None if there is none (any more).

    Raises:
        StorageUnavailableError: a retry may work.
        StorageRefusedError: it will not.
    """
    document = store.paper(claim.plan) if claim.plan else None
    return None if document is None else Plan.from_document(document)


def _places(store: FileStore, file: FileVersion) -> Iterator[str]:
    yield processing_key(file)
    yield file.key
    yield failed_key(file)
    receipt = store.paper(receipt_key(file))
    if receipt is not None and receipt["stored_as"] is not None:
        yield receipt["stored_as"]
