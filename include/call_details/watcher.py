"""What the watcher does with dropped files: each version gets an owner, leaves ``incoming/``, and needs a run.

Which files stay under ``incoming/`` because they cannot be taken in, and whether people know.

A file that nobody helps is found by every round of the watcher, several times an hour. People are told once, and once
more every day.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import batched

from include.call_details.keys import file_version, is_dropped_file, processing_key, run_id
from include.call_details.ledger import Claims
from include.call_details.models import Claim, Done, FileVersion, Held, Unfinished
from include.call_details.storage import FileStore, StoredFile
from include.clients.dynamodb import Item, ItemTable
from include.errors import PipelineError

log = logging.getLogger(__name__)

MAX_FILES = 200
"""Files of one round, or a few more; what is left is for the next, which follows at once."""

_WORKERS = 10


@dataclass(frozen=True)
class Left:
    """A file that stays under ``incoming/``.

    Args:
        key: where it lies.
        etag: which version of it; None if S3 would not tell.
        reason: why it could not be taken.
        busy: it has an owner who is at work, so all is well.
    """

    key: str
    etag: str | None
    reason: str
    busy: bool = False


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
    """

    def __init__(self, store: FileStore, claims: Claims) -> None:
        self._store = store
        self._claims = claims

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

    def owed(self) -> Iterator[Unfinished]:
        """Files that were claimed for a run which has not begun since, by this round or an earlier one.

        A claim that was let lapse is among them: nobody works on it any more, and nobody was told.

        Raises:
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        for each in self._claims.unfinished():
            if each.file.bucket == self._store.bucket and (each.lapsed or not each.begun):
                yield each

    def _try(self, key: str) -> FileVersion | Left | None:
        etag = None
        try:
            found = self._store.look(key)
            if found is None:
                return None
            etag = found.etag
            return self._take(file_version(self._store.bucket, key, etag), found)
        except PipelineError as error:
            log.warning("a file stays under incoming/: %s", error)
            return Left(key, etag, str(error))

    def _take(self, file: FileVersion, found: StoredFile) -> FileVersion | Left | None:
        answer = self._claims.claim(file, run_id(file))
        if isinstance(answer, Held):
            reason = f"{file.key} is in the hands of run {answer.owner}"
            log.info("%s: it stays under incoming/ until that has ended", reason)
            return Left(file.key, found.etag, reason, busy=True)
        if isinstance(answer, Claim):
            answer = self._bring(file, found)
        if isinstance(answer, Done):
            log.info("%s (%s) was ingested before by run %s, see %s", file.key, file.etag, answer.owner, answer.receipt)
        self._store.remove(found)
        return file if isinstance(answer, Claim) else None

    def _bring(self, file: FileVersion, found: StoredFile) -> Claim | Held | Done:
        """Copy a file to where it is worked on, then ask for its run: a round that dies is made good by the next."""
        target = processing_key(file)
        # Dropped again while it is being worked on: a second copy could outlive the run that has the first.
        copied = None if self._store.look(target) else self._store.copy(found, target)
        answer = self._claims.claim(file, run_id(file), begun=False)
        if isinstance(answer, Done) and copied is not None:
            # The run that had the first copy has closed the file in between: nobody would take this one away.
            self._store.remove(copied)
        return answer


PATIENCE_SECONDS = 300.0
"""What cannot be taken at first may be taken soon: S3 and DynamoDB fail for a moment now and then."""

TOLD_AGAIN_SECONDS = 86_400.0

_PARTITION = "left-files"


class LeftFiles:
    """What the ledger table knows of such files.

    Every method may raise AwsUnavailableError (a retry may work) and AwsRefusedError (it will not).

    Args:
        table: the ledger table.
        bucket: of the files.
        clock: seconds since the epoch.
    """

    def __init__(self, table: ItemTable, bucket: str, *, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._bucket = bucket
        self._clock = clock

    def untold(self, left: Sequence[Left]) -> list[Left]:
        """Take note of the files that are left now.

        Args:
            left: what a round could not take.

        Returns:
            those of which people have to be told.
        """
        now = self._clock()
        known = {item.sk: item for item in self._table.query(_PARTITION)}
        due = []
        for each in left:
            item = known.pop(self._sort_key(each), None)
            if item is None:
                self._write(Item(_PARTITION, self._sort_key(each)), since=now, told=0.0)
            elif _told(item) + TOLD_AGAIN_SECONDS <= now and _since(item) + PATIENCE_SECONDS <= now:
                due.append(each)
        for item in known.values():
            # Not at once: a file that is left now and then is not to be told of now and then.
            if max(_told(item), _since(item)) + TOLD_AGAIN_SECONDS <= now:
                self._table.delete(item)
        return due

    def note_told(self, told: Iterable[Left]) -> None:
        """Take note that people were told of these."""
        for each in told:
            item = self._table.get(_PARTITION, self._sort_key(each))
            self._write(item, since=_since(item), told=self._clock())

    def _sort_key(self, left: Left) -> str:
        # As JSON, because a key may hold any character that one would put between the parts.
        return hashlib.sha256(json.dumps([self._bucket, left.key, left.etag]).encode()).hexdigest()

    def _write(self, item: Item, *, since: float, told: float) -> None:
        # Only one round runs at a time: should it be overtaken after all, the other has written the same.
        self._table.replace(item, {"since_ms": int(since * 1000), "told_ms": int(told * 1000)})


def _since(item: Item) -> float:
    since: int = item.content["since_ms"]
    return since / 1000


def _told(item: Item) -> float:
    told: int = item.content["told_ms"]
    return told / 1000
