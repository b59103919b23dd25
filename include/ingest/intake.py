"""What the watcher does with dropped files: each version gets an owner, leaves ``incoming/``, and needs a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import batched

from include.errors import PipelineError
from include.ingest.claim import Claim, FileVersion, Held
from include.ingest.claims import Claims
from include.ingest.files import FileStore, StoredFile
from include.ingest.identity import file_version, run_id
from include.ingest.keys import is_dropped_file, processing_key

MAX_FILES = 200
"""Files of one round, or a few more; what is left is for the next, which follows at once."""

_WORKERS = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Left:
    """A file that stays under ``incoming/``.

    Args:
        key: where it lies.
        reason: why it could not be taken.
    """

    key: str
    reason: str


@dataclass(frozen=True)
class Taken:
    """What one round took.

    Args:
        files: claimed and moved; each needs its run.
        left: could not be taken, and did not keep the others from it.
    """

    files: tuple[FileVersion, ...]
    left: tuple[Left, ...]


class Intake:
    """Takes dropped files in. The owner of a claim is the run that is to be started, known by its id beforehand.

    Args:
        store: the ingest bucket.
        claims: of the ledger table.
        records_per_batch: for files that nobody has claimed before.
    """

    def __init__(self, store: FileStore, claims: Claims, *, records_per_batch: int) -> None:
        self._store = store
        self._claims = claims
        self._records_per_batch = records_per_batch

    def take(self, limit: int = MAX_FILES) -> Taken:
        """Claim dropped files and move them to ``processing/``.

        Args:
            limit: no more are looked at once so many are taken.

        Raises:
            StorageUnavailableError: the bucket cannot be listed; a retry may work.
            StorageRefusedError: the same, and it will not.
        """
        files: list[FileVersion] = []
        left: list[Left] = []
        keys = filter(is_dropped_file, self._store.dropped_keys())
        with ThreadPoolExecutor(_WORKERS) as workers:
            for group in batched(keys, _WORKERS):
                for found in workers.map(self._try, group):
                    if isinstance(found, Left):
                        left.append(found)
                    elif found is not None:
                        files.append(found)
                if len(files) >= limit:
                    break
        return Taken(tuple(files), tuple(left))

    def owed(self) -> Iterator[FileVersion]:
        """Files that were claimed for a run, by this round or an earlier one, and are not accounted for.

        A claim that some other run has let lapse is among them: nobody works on it any more.

        Raises:
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        for file, held in self._claims.unfinished():
            if file.bucket == self._store.bucket and (held is None or held.owner == run_id(file)):
                yield file

    def _try(self, key: str) -> FileVersion | Left | None:
        try:
            return self._take(key)
        except PipelineError as error:
            log.warning("a file stays under incoming/: %s", error)
            return Left(key, str(error))

    def _take(self, key: str) -> FileVersion | Left | None:
        found = self._store.look(key)
        if found is None:
            return None
        file = file_version(self._store.bucket, key, found.etag)
        answer = self._claims.claim(file, run_id(file), records_per_batch=self._records_per_batch)
        if isinstance(answer, Held):
            return Left(key, f"{key} is in the hands of run {answer.owner}")
        if isinstance(answer, Claim):
            self._move(file, found)
            return file
        log.info("%s (%s) was ingested before by run %s, see %s", key, file.etag, answer.owner, answer.receipt)
        self._store.remove(found)
        return None

    def _move(self, file: FileVersion, found: StoredFile) -> None:
        target = processing_key(file)
        if self._store.look(target) is not None:
            # Dropped again while it is being worked on: a second copy could outlive the run that has the first.
            self._store.remove(found)
        else:
            self._store.move(found, target)
