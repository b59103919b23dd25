"""Which files stay under ``incoming/`` because they cannot be taken in, and whether people know.

A file that nobody helps is found by every round of the watcher, several times an hour. People are told once, and once
more every day.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence

from include.clients.items import Item, ItemTable
from include.ingest.intake import Left

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
