"""Names made from a file version: the same for the same version, whoever makes them and however often."""

from __future__ import annotations

import hashlib
import json
import re

from include.ingest.claim import FileVersion
from include.ingest.keys import INCOMING

_NOT_IN_A_RUN_ID = re.compile(r"[^A-Za-z0-9_.~-]+")
_READABLE = 100
_DIGEST = 24


def file_version(bucket: str, key: str, etag: str) -> FileVersion:
    """A file version as S3 announces it: some answers have the ETag in quotes, some have not."""
    return FileVersion(bucket, key, etag.strip('"'))


def idempotency_key(file: FileVersion, batch: int) -> str:
    """The ``Idempotency-Key`` of a batch: 64 hexadecimal digits.

    Args:
        file: the version that the batch is of.
        batch: its number, from 0. It must stand for the same records whenever the version is posted again, so the
            records per batch of a version never change (see :class:`include.ingest.claim.Terms`).
    """
    return _digest(file.bucket, file.key, file.etag, batch)


def run_id(file: FileVersion) -> str:
    """The id of the run that ingests a file version: what can be read of the key's end, and a digest.

    Airflow allows letters, digits and ``_.~:+-`` in an id that somebody chooses.
    """
    readable = _NOT_IN_A_RUN_ID.sub("_", file.key.removeprefix(INCOMING))[-_READABLE:]
    return f"file__{readable}__{_digest(file.bucket, file.key, file.etag)[:_DIGEST]}"


def _digest(*parts: str | int) -> str:
    # As JSON, because a key may hold any character that one would put between the parts.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
