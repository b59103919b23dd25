"""What a round of the watcher does: each dropped file version gets an owner, leaves ``incoming/``, and needs a run.

A file that cannot be taken in keeps no other from it. It stays where it is and is found by every round, several times
an hour; people are alerted once, and once more every day. A file that was dropped beside the prefix is reported once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import batched

from include.call_details.keys import OWN_PREFIXES, Incoming, file_version, processing_key, run_id, shared_run_id
from include.call_details.ledger import Claims
from include.call_details.models import CHUNK_BYTES, Claim, Done, FileVersion, LeaseHeld, Unfinished, digest
from include.call_details.planner import is_moved
from include.call_details.storage import FileStore, StoredFile
from include.clients.dynamodb import Item, ItemTable
from include.errors import PipelineError
from include.text import printable

MAX_FILES = 500
"""Files of one round, or a few more; what is left is for the next, which follows at once."""

SHARED_FROM = 10
"""So many small files that wait together share a run; fewer have a run of their own each."""

SHARED_BYTES = 256 * 1024 * 1024
"""Most bytes of files that share a run; each has at most those of a chunk."""

MAX_BESIDE = 500
"""Files beside the prefix that a round looks at."""

PATIENCE_SECONDS = 300.0
"""What cannot be taken at first may be taken soon: S3 and DynamoDB fail for a moment now and then."""

REPORT_AGAIN_SECONDS = 86_400.0

_WORKERS = 10
_PARTITION = "left-files"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeftFile:
    """A file that stays where it was dropped.

    Args:
        etag: which version of it; None if S3 did not say.
        reason: why it could not be taken.
        busy: another run works on it, which is no fault.
        beside: it is not under the prefix.
    """

    key: str
    etag: str | None
    reason: str
    busy: bool = False
    beside: bool = False


@dataclass(frozen=True)
class Taken:
    """What one round took: files that were claimed and moved, by the id of the run that they need; and what is left."""

    runs: Mapping[str, Sequence[FileVersion]]
    left: tuple[LeftFile, ...]

    @property
    def files(self) -> tuple[FileVersion, ...]:
        """All files that were taken."""
        return tuple(file for files in self.runs.values() for file in files)


type _TakenKey = tuple[list[tuple[str, FileVersion]], list[LeftFile]]
"""What was taken of one key, each file with the run that it needs, and what was left."""


class Intake:
    """Takes dropped files in. The owner of a claim is the run that is to be started, known by its id beforehand."""

    def __init__(self, store: FileStore, claims: Claims, incoming: Incoming) -> None:
        self._store = store
        self._claims = claims
        self._incoming = incoming

    def take(self, limit: int = MAX_FILES) -> Taken:
        """Claim dropped files and move them to ``processing/``; no more are looked at once ``limit`` are taken."""
        runs: dict[str, dict[FileVersion, None]] = {}
        left: list[LeftFile] = []
        waiting = (found for found in self._store.listed(self._incoming.prefix) if self._incoming.takes(found.key))
        with ThreadPoolExecutor(_WORKERS) as workers:
            for group in batched(waiting, limit):
                for files, not_taken in workers.map(self._take_key, *zip(*self._owners(group), strict=True)):
                    for owner, file in files:
                        runs.setdefault(owner, {})[file] = None
                    left += not_taken
                if sum(map(len, runs.values())) >= limit:
                    break
        return Taken({owner: tuple(found) for owner, found in runs.items()}, tuple(left))

    def _owners(self, waiting: Sequence[StoredFile]) -> Iterator[tuple[str, str | None]]:
        """The keys of files that wait together, each with the id of the run that it is to share, or None."""
        group: list[StoredFile] = []
        for found in waiting:
            if found.size > CHUNK_BYTES or printable(found.key) != found.key:
                yield found.key, None
                continue
            if sum(each.size for each in group) + found.size > SHARED_BYTES:
                yield from self._sharing(group)
                group = []
            group.append(found)
        yield from self._sharing(group)

    def _sharing(self, group: Sequence[StoredFile]) -> Iterator[tuple[str, str | None]]:
        files = [file_version(self._store.bucket, found.key, found.etag) for found in group]
        owner = shared_run_id(files) if len(files) >= SHARED_FROM else None
        return ((found.key, owner) for found in group)

    def beside(self) -> list[LeftFile]:
        """Files that were dropped beside the prefix, where nothing takes them."""
        prefix = self._incoming.prefix
        reason = f"it is not under {prefix}: move it there, or change the setting incoming_prefix"
        return [
            LeftFile(found.key, found.etag, reason, beside=True)
            for found in self._store.beside(prefix, own=OWN_PREFIXES, limit=MAX_BESIDE)
            if self._incoming.lies_beside(found.key)
        ]

    def without_run(self) -> Iterator[Unfinished]:
        """Files that were claimed for a run which has not begun since, by this round or an earlier one.

        A claim whose lease ran out is among them: its run died, and nobody was alerted.
        """
        for each in self._claims.unfinished():
            if each.file.bucket == self._store.bucket and (each.lapsed or not each.begun):
                yield each

    def _take_key(self, key: str, shared: str | None) -> _TakenKey:
        """Take every version under a key, oldest first, then delete the object."""
        if printable(key) != key:
            # Airflow's database refuses some of these characters, and with them all runs of the round.
            reason = "its key holds characters that cannot be stored or shown: drop it under another"
            return [], [LeftFile(key, None, reason)]
        files: list[tuple[str, FileVersion]] = []
        left: list[LeftFile] = []
        versions: list[StoredFile] = []
        try:
            versions = self._store.versions(key)
        except PipelineError as error:
            left.append(_left(key, None, error))
        for found in versions:
            file = file_version(self._store.bucket, key, found.etag)
            owner = shared if shared and found.size <= CHUNK_BYTES else run_id(file)
            # The version that is deleted at the end cannot be found again by the next round.
            last = found is versions[-1] and not left
            try:
                taken = self._take(file, found, owner, dropped_again=last)
                if isinstance(taken, LeftFile):
                    left.append(taken)
                    continue
                if last:
                    self._store.remove(found)
            except PipelineError as error:
                left.append(_left(key, found.etag, error))
                continue
            if taken is not None:
                files.append((owner, taken))
        return files, left

    def _take(
        self, file: FileVersion, found: StoredFile, owner: str, *, dropped_again: bool
    ) -> FileVersion | LeftFile | None:
        new = self._claims.claim_new(file, owner)
        if new is not None and found.size <= CHUNK_BYTES:
            # Nobody has worked on it before, and nobody may before the lease is over.
            self._store.copy(found, processing_key(file))
            _log_claimed(file, found, owner)
            return file
        if new is None and not dropped_again and self._claims.is_begun(file, owner):
            # An earlier round has taken it. To claim it would call it under way, though nothing may work on it.
            if not is_moved(self._store, file):
                # That round could not copy it, and the deletion of the last version would withdraw it.
                self._store.copy(found, processing_key(file))
            return None
        claim = new or self._claims.claim(file, owner)
        if isinstance(claim, LeaseHeld):
            reason = f"run {claim.owner} works on {file.key}"
            log.info("%s: it stays where it was dropped until that has ended", reason)
            return LeftFile(file.key, found.etag, reason, busy=True)
        if isinstance(claim, Claim) and (dropped_again or not claim.begun):
            claim = self._bring(file, found, owner)
            if isinstance(claim, Claim):
                _log_claimed(file, found, owner)
        elif isinstance(claim, Claim):
            # It has begun just now.
            return None
        if isinstance(claim, Done):
            log.info("%s (%s) was ingested before by run %s, see %s", file.key, file.etag, claim.owner, claim.receipt)
        return file if isinstance(claim, Claim) else None

    def _bring(self, file: FileVersion, found: StoredFile, owner: str) -> Claim | LeaseHeld | Done:
        """Copy a file to ``processing/``, then ask for its run: if this round dies, the next one does the rest."""
        target = processing_key(file)
        # Dropped again while a run works on it: a second copy could outlive the run that has the first.
        copied = None if self._store.head(target) else self._store.copy(found, target)
        claim = self._claims.claim(file, owner, begun=False)
        if isinstance(claim, Done) and copied is not None:
            # The run that had the first copy has closed the file meanwhile, so nothing else removes this one.
            self._store.remove(copied)
        return claim


def _log_claimed(file: FileVersion, found: StoredFile, owner: str) -> None:
    line = "file %s claimed for run %s: %d bytes, ETag %s, version %s"
    log.info(line, file.key, owner, found.size, file.etag, found.version_id)


def _left(key: str, etag: str | None, error: PipelineError) -> LeftFile:
    log.warning("a file stays where it was dropped: %s", error)
    return LeftFile(key, etag, str(error))


class LeftFiles:
    """Which files of a bucket were left and reported, as the ledger table knows it."""

    def __init__(self, table: ItemTable, bucket: str, *, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._bucket = bucket
        self._clock = clock

    def unreported(self, left: Sequence[LeftFile]) -> list[LeftFile]:
        """Note the files that are left now, and return those that have to be reported."""
        now = self._clock()
        known = {item.sk: item for item in self._table.query(_PARTITION)}
        due = []
        for each in left:
            item = known.pop(self._sort_key(each), None)
            if item is None:
                self._write(Item(_PARTITION, self._sort_key(each)), since=now, reported=0.0)
            elif _since(item) + PATIENCE_SECONDS <= now:
                reported = _reported(item)
                if not reported or (not each.beside and reported + REPORT_AGAIN_SECONDS <= now):
                    due.append(each)
        for item in known.values():
            # Not at once: a file that is left now and then must not be reported each time.
            if max(_reported(item), _since(item)) + REPORT_AGAIN_SECONDS <= now:
                self._table.delete(item)
        return due

    def note_reported(self, left: Iterable[LeftFile]) -> None:
        """Note that these were reported."""
        for each in left:
            item = self._table.get(_PARTITION, self._sort_key(each))
            self._write(item, since=_since(item), reported=self._clock())

    def _sort_key(self, left: LeftFile) -> str:
        return digest(self._bucket, left.key, left.etag)

    def _write(self, item: Item, *, since: float, reported: float) -> None:
        # Only one round runs at a time: should it be overtaken after all, the other has written the same.
        self._table.replace(item, {"since_ms": int(since * 1000), "told_ms": int(reported * 1000)})


def _since(item: Item) -> float:
    return float(item.content["since_ms"]) / 1000


def _reported(item: Item) -> float:
    return float(item.content["told_ms"]) / 1000
