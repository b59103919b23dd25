"""The ledger: one entry a run, each with the digest of the one before (spec: archive, Proof).

An entry lies at ``ledger/trigger/<8-digit number>.json`` and is written by a conditional request on the next number, so
two runs that end at once get two numbers and the chain never forks. It names the run's manifest by key, version and
sha256; the manifest names every archived answer in the same way.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from include.archive.keys import ledger_key
from include.clients.aws import error_code
from include.clients.s3 import MISSING, s3_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FIRST = 1

_SKEW = timedelta(minutes=1)
"""S3's times are whole seconds, of machines that may differ a little."""


@dataclass(frozen=True)
class Entry:
    """One run in the ledger.

    Args:
        number: its place, from 1.
        run_id: of the run.
        trigger_date: the run's day, ``YYYY-MM-DD``; None if it adopted archives of several days.
        manifest: key of the run's manifest.
        version_id: of the manifest; None if the bucket keeps no versions.
        sha256: of the manifest.
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
        """The entry that :meth:`to_bytes` wrote.

        Raises:
            ValueError: the bytes are not those of an entry.
        """
        try:
            entry = cls(**json.loads(body))
        except TypeError as error:
            raise ValueError("fields of the entry") from error
        if entry.to_bytes() != body:
            raise ValueError("the entry is not as it is written")
        return entry


@dataclass(frozen=True)
class SavedManifest:
    """Where a run's manifest lies.

    Args:
        key: of the manifest.
        version_id: None if the bucket keeps no versions.
        sha256: of its bytes.
        saved_at: when S3 stored it.
    """

    key: str
    version_id: str | None
    sha256: str
    saved_at: datetime


def sha256(body: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(body).hexdigest()


class Ledger:
    """The ledger of one archive bucket. Its methods raise the errors of :mod:`include.clients.s3`.

    Args:
        s3: a boto3 client.
        bucket: the archive bucket.
        lock: arguments of a write that keep the object from being deleted; empty without Object Lock.
    """

    def __init__(self, s3: S3Client, bucket: str, lock: dict[str, Any] | None = None) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._lock = lock or {}

    def append(self, run_id: str, trigger_date: str | None, manifest: SavedManifest) -> Entry:
        """Append an entry for a run's manifest, or find the one that an earlier attempt appended."""
        last = self.last()
        while True:
            found, previous = self._find(last, run_id, manifest)
            if found is not None:
                return found
            entry = Entry(last + 1, run_id, trigger_date, manifest.key, manifest.version_id, manifest.sha256, previous)
            if self._create(entry):
                return entry
            # Another run has taken the number.
            last += 1

    def last(self) -> int:
        """Number of the newest entry; 0 if there is none. Numbers have no gap, so it takes few requests."""
        step = FIRST
        while self._exists(step):
            step *= 2
        there, absent = step // 2, step
        while absent - there > 1:
            middle = (there + absent) // 2
            there, absent = (middle, absent) if self._exists(middle) else (there, middle)
        return there

    def _find(self, last: int, run_id: str, manifest: SavedManifest) -> tuple[Entry | None, str | None]:
        """The run's entry for this manifest, if there is one; and the digest of entry ``last``.

        An entry is younger than its manifest, so it is among the newest.
        """
        newest = None
        for number in range(last, FIRST - 1, -1):
            with s3_errors(f"read entry {number} of the ledger"):
                answer = self._s3.get_object(Bucket=self._bucket, Key=ledger_key(number))
                body = answer["Body"].read()
            newest = newest or sha256(body)
            entry = Entry.from_bytes(body)
            if (entry.run_id, entry.manifest, entry.version_id, entry.sha256) == (
                run_id,
                manifest.key,
                manifest.version_id,
                manifest.sha256,
            ):
                return entry, newest
            if answer["LastModified"] < manifest.saved_at - _SKEW:
                break
        return None, newest

    def _create(self, entry: Entry) -> bool:
        with s3_errors(f"write entry {entry.number} of the ledger"):
            try:
                self._s3.put_object(
                    Bucket=self._bucket,
                    Key=ledger_key(entry.number),
                    Body=entry.to_bytes(),
                    ContentType="application/json",
                    ServerSideEncryption="AES256",
                    IfNoneMatch="*",
                    **self._lock,
                )
            except ClientError as error:
                if error_code(error) != "PreconditionFailed":
                    raise
                return False
        return True

    def _exists(self, number: int) -> bool:
        with s3_errors(f"look for entry {number} of the ledger"):
            try:
                self._s3.head_object(Bucket=self._bucket, Key=ledger_key(number))
            except ClientError as error:
                if error_code(error) not in MISSING:
                    raise
                return False
        return True
