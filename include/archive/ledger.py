"""The ledger: one entry a run, each with the digest of the one before (spec: archive, Proof).

An entry is at ``ledger/trigger/<8-digit number>.json`` and is written by a conditional request on the next number, so
two runs that end at once get two numbers and the chain never forks. It names the run's manifest by key, version and
sha256; the manifest names every archived answer in the same way.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from include.archive.keys import LEDGER, ledger_key
from include.clients.s3 import CONDITION_FAILED, put_object, s3_errors
from include.concurrency import converted

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FIRST = 1

_PAGE = 1000
"""So many keys a list shows at once."""

ENTRY_KEY = re.compile(rf"{LEDGER}(?!0{{8}})(\d{{8}})\.json", re.ASCII)
"""Keys of entries; nothing else belongs into the ledger."""

_SKEW = timedelta(minutes=1)
"""S3's times are whole seconds, of machines that may differ a little."""


@dataclass(frozen=True)
class Entry:
    """One run in the ledger.

    Args:
        number: its place, from 1.
        trigger_date: the run's day, ``YYYY-MM-DD``; None if it adopted archives of several days.
        manifest: key of the run's manifest.
        version_id: of the manifest, as is ``sha256``; None if the bucket keeps no versions.
        previous: sha256 of the entry before; None for the first.
    """

    number: int
    run_id: str
    trigger_date: str | None
    manifest: str
    version_id: str | None
    sha256: str
    previous: str | None

    def to_bytes(self) -> bytes:
        """The entry as it is stored: one line of JSON, the same bytes for the same entry."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"

    @classmethod
    def from_bytes(cls, body: bytes) -> Entry:
        """The entry that :meth:`to_bytes` wrote; raises ValueError if the bytes are not those of an entry."""
        try:
            entry = converted(json.loads(body), cls)
        except (msgspec.ValidationError, RecursionError) as error:
            raise ValueError("fields of the entry") from error
        if entry.to_bytes() != body:
            raise ValueError("the entry is not as it is written")
        if entry.trigger_date is not None and date.fromisoformat(entry.trigger_date).isoformat() != entry.trigger_date:
            raise ValueError("the day of the entry")
        return entry

    def is_of(self, run_id: str, manifest: SavedManifest) -> bool:
        """Whether it is the entry of this run and manifest."""
        return (self.run_id, self.manifest, self.version_id, self.sha256) == (run_id, *manifest.place)


@dataclass(frozen=True)
class Newest:
    """The newest entry of the ledger: number 0 and no digest if there is none."""

    number: int
    sha256: str | None


@dataclass(frozen=True)
class SavedManifest:
    """Where a run's manifest is.

    Args:
        version_id: None if the bucket keeps no versions.
        saved_at: when S3 stored it; None if that was just now.
    """

    key: str
    version_id: str | None
    sha256: str
    saved_at: datetime | None = field(default=None, compare=False)

    @property
    def place(self) -> tuple[str, str | None, str]:
        """Key, version and sha256."""
        return self.key, self.version_id, self.sha256


def sha256(body: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(body).hexdigest()


class Ledger:
    """The ledger of one archive bucket; ``lock`` as :func:`include.archive.store.lock_until` gives it."""

    def __init__(self, s3: S3Client, bucket: str, lock: dict[str, Any] | None = None) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._lock = lock or {}

    def append(self, run_id: str, trigger_date: str | None, manifest: SavedManifest, newest: Newest) -> Entry:
        """Append an entry for a run's manifest, or find the one that another attempt appended.

        The newest entry has to be read before the manifest is saved, if that is done just now.
        """
        if manifest.saved_at is not None and (found := self._find(newest.number, run_id, manifest, manifest.saved_at)):
            return found
        while True:
            entry = Entry(newest.number + 1, run_id, trigger_date, *manifest.place, newest.sha256)
            key, more = ledger_key(entry.number), {"IfNoneMatch": "*", **self._lock}
            if put_object(self._s3, self._bucket, key, entry.to_bytes(), none_for=CONDITION_FAILED, **more) is not None:
                return entry
            # Another run has taken the number, or another attempt.
            body, _ = self._read(entry.number)
            there = Entry.from_bytes(body)
            if there.is_of(run_id, manifest):
                return there
            newest = Newest(there.number, sha256(body))

    def newest(self) -> Newest:
        """The newest entry."""
        number = self.last()
        return Newest(number, sha256(self._read(number)[0]) if number else None)

    def last(self) -> int:
        """Number of the newest entry; 0 if there is none. One request for the first thousand entries, then few."""
        last, full = self._behind(0)
        while full:
            step = _PAGE
            while self._behind(last + step, most=1)[1]:
                last, step = last + step, 2 * step
            last, full = self._behind(last)
        return last

    def _behind(self, number: int, *, most: int = _PAGE) -> tuple[int, bool]:
        """The last entry among so many keys behind one, or that one; and whether more may follow."""
        with s3_errors("list the ledger"):
            page = self._s3.list_objects_v2(
                Bucket=self._bucket, Prefix=LEDGER, StartAfter=ledger_key(number), MaxKeys=most
            )
        keys = [item["Key"] for item in page.get("Contents", [])]
        numbers = [int(found[1]) for key in keys if (found := ENTRY_KEY.fullmatch(key))]
        return (numbers or [number])[-1], bool(numbers) and len(keys) == most

    def _find(self, last: int, run_id: str, manifest: SavedManifest, saved_at: datetime) -> Entry | None:
        """The run's entry for this manifest, if there is one: it is younger than that, so it is among the newest."""
        for number in range(last, FIRST - 1, -1):
            body, written_at = self._read(number)
            entry = Entry.from_bytes(body)
            if entry.is_of(run_id, manifest):
                return entry
            if written_at < saved_at - _SKEW:
                break
        return None

    def _read(self, number: int) -> tuple[bytes, datetime]:
        with s3_errors(f"read entry {number} of the ledger"):
            answer = self._s3.get_object(Bucket=self._bucket, Key=ledger_key(number))
            return answer["Body"].read(), answer["LastModified"]
