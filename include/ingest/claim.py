"""A file version, who works on it, and how far it has come."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class FileVersion:
    """What is claimed: a file as it was announced, wherever it is moved to afterwards.

    Args:
        bucket: where it was announced.
        key: its key there.
        etag: its ETag there.
    """

    bucket: str
    key: str
    etag: str

    @property
    def partition(self) -> str:
        """Partition key of all that the ledger knows about it."""
        # As JSON, because a key may hold any character that one would put between the parts.
        return f"file#{hashlib.sha256(json.dumps([self.bucket, self.key, self.etag]).encode()).hexdigest()}"


@dataclass(frozen=True)
class Claim:
    """A file version in the hands of its owner.

    Args:
        file: the file version.
        owner: the run that works on it.
        fence: higher than that of every owner before.
        round: 1, and one more each time that a version which was done is posted again.
        records_per_batch: as the first owner of all fixed it: the same batch number must always mean the same records.
        plan: where this round's plan lies, once there is one.
    """

    file: FileVersion
    owner: str
    fence: int
    round: int
    records_per_batch: int
    plan: str | None = None


@dataclass(frozen=True)
class Held:
    """Another owner has it.

    Args:
        owner: the run that has it.
        until: when its lease ends, seconds since the epoch.
    """

    owner: str
    until: float


@dataclass(frozen=True)
class Done:
    """The file version is accounted for.

    Args:
        receipt: where its receipt lies.
        owner: the run that did it.
    """

    receipt: str
    owner: str
