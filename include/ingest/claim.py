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
class Terms:
    """What the bodies of a file version's batches depend on beside its bytes. Its first plan fixes them for ever.

    The same batch is then the same body under the same idempotency key, however often the version is planned or posted.

    Args:
        records_per_batch: 1 to 500; the last batch of the file may have fewer.
        timestamp: the ``timestamp`` of every batch.
    """

    records_per_batch: int
    timestamp: str


@dataclass(frozen=True)
class Claim:
    """A file version in the hands of its owner.

    Args:
        file: the file version.
        owner: the run that works on it.
        fence: higher than that of every owner before.
        round: 1, and one more each time that a version which was done is posted again.
        terms: None if it was never planned.
        plan: where this round's plan lies, once there is one.
        begun: its run has set to work since the file was delivered last; otherwise one has to be started for it.
    """

    file: FileVersion
    owner: str
    fence: int
    round: int
    terms: Terms | None = None
    plan: str | None = None
    begun: bool = False


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


@dataclass(frozen=True)
class Unfinished:
    """A file version that was claimed and is not done.

    Args:
        file: the file version.
        begun: see :class:`Claim`.
        lapsed: its lease ran out: the owner died, as nobody let go of it.
    """

    file: FileVersion
    begun: bool
    lapsed: bool
