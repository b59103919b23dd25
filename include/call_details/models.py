"""The values of an ingest: a file version and its claim, the plan that cuts it into chunks of whole batches, how far
each chunk has come, and the receipt that accounts for every record (spec: call_details, Receipt).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from include.errors import InvalidInputError

MAX_BATCHES_PER_CHUNK = 40_000
"""If all were dead letters, their numbers (7 bytes each at most) would still fit into an item's 400 KB."""

CHUNK_BYTES = 64 * 1024 * 1024
"""Bytes of a chunk: a task takes a second to start, and so many bytes take the API several."""

TASKS_AT_ONCE = 4
"""Chunks of one run that are posted at the same time."""


def digest(*parts: str | int | None) -> str:
    """Of all the parts together: 64 hexadecimal digits."""
    # As JSON, because a key may hold any character that one would put between the parts.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class FileVersion:
    """What is claimed: a file as it was dropped, wherever it is moved to afterwards."""

    bucket: str
    key: str
    etag: str

    @property
    def partition(self) -> str:
        """Partition key of all that the ledger knows about it."""
        return f"file#{digest(self.bucket, self.key, self.etag)}"


@dataclass(frozen=True)
class Terms:
    """What the bodies of a file version's batches depend on beside its bytes; its first plan fixes them for good.

    So the same batch is the same body under the same idempotency key, however often the version is planned or posted.
    A batch has 1 to 500 records; the last one of the file may have fewer than the others.
    """

    records_per_batch: int
    timestamp: str


@dataclass(frozen=True)
class Claim:
    """A file version in the hands of its owner.

    Args:
        owner: the run that works on it.
        fence: higher than that of every owner before.
        round: 1, and one more each time that a version which was done is posted again.
        terms: None if it was never planned.
        plan: key of this round's plan, once there is one.
        begun: its run has begun since the file was dropped last; otherwise one has to be started for it.
    """

    file: FileVersion
    owner: str
    fence: int
    round: int
    terms: Terms | None = None
    plan: str | None = None
    begun: bool = False


@dataclass(frozen=True)
class LeaseHeld:
    """Another owner has the file version, until its lease ends (seconds since the epoch)."""

    owner: str
    until: float


@dataclass(frozen=True)
class Done:
    """The file version is accounted for, in the receipt under that key."""

    receipt: str
    owner: str


@dataclass(frozen=True)
class Unfinished:
    """A file version that was claimed and is not done.

    Args:
        owner: None if that is not known any more.
        begun: see :class:`Claim`.
        lapsed: its lease ran out without being released: the owner died.
    """

    file: FileVersion
    owner: str | None
    begun: bool
    lapsed: bool


@dataclass(frozen=True)
class Chunk:
    """The work of one mapped task: bytes ``start`` to ``stop`` (exclusive) of the stored object.

    Indexes and numbers of batches count from 0, numbers of records from 1, each through the whole file.
    """

    index: int
    start: int
    stop: int
    first_record: int
    records: int
    first_batch: int
    batches: int


@dataclass(frozen=True)
class Plan:
    """One round's work on a file version.

    Args:
        file: the version as it was dropped: its identity.
        key: of the object that tasks read.
        etag: its ETag there, for ``If-Match``; a move may change it.
        size: of the object, in bytes.
        records_per_batch: see :class:`Terms`, as for ``timestamp``.
        records: lines that are not blank.
        text_bytes: bytes of the text as UTF-8; ``invalid_bytes`` are those of it that are not valid.
        chunks: hold all records, in order; none if there are no records. Together they are the whole object. There is
            one at most unless the object's bytes are the text.
        encoding: see :class:`include.call_details.content.Text`.
    """

    file: FileVersion
    key: str
    etag: str
    size: int
    gzip: bool
    records_per_batch: int
    timestamp: str
    records: int
    text_bytes: int
    invalid_bytes: int
    chunks: tuple[Chunk, ...]
    encoding: str = "utf-8"

    @property
    def batches(self) -> int:
        """How many the file has."""
        return -(-self.records // self.records_per_batch)

    def to_document(self) -> dict[str, Any]:
        """A JSON document; :meth:`from_document` reads it back."""
        return {**vars(self), "file": asdict(self.file), "chunks": [astuple(chunk) for chunk in self.chunks]}

    @classmethod
    def of(cls, document: dict[str, Any], file: FileVersion) -> Plan | None:
        """The plan of a file version in a document of one plan, or in that of a run that several files share."""
        for each in document.get("plans", [document]):
            if each["file"] == asdict(file):
                return cls.from_document(each)
        return None

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Plan:
        """The plan that :meth:`to_document` wrote."""
        file, chunks = FileVersion(**document["file"]), tuple(Chunk(*chunk) for chunk in document["chunks"])
        return cls(**document | {"file": file, "chunks": chunks})


@dataclass(frozen=True)
class Settled:
    """A batch, numbered from 0 through the whole file, that needs nothing more: accepted, else a dead letter."""

    number: int
    records: int
    accepted: bool
    retries: int = 0


@dataclass(frozen=True)
class ChunkState:
    """How far a chunk has come.

    Args:
        index: of the chunk in the file, from 0.
        first: number of its first batch.
        settled_to: all batches before this number are settled.
        settled_beyond: those at or after it that are settled as well.
        dead: those of the settled that are dead letters.
        logins: calls of the login that all attempts made.
    """

    index: int
    first: int
    batches: int
    settled_to: int
    settled_beyond: frozenset[int] = frozenset()
    dead: tuple[int, ...] = ()
    records_accepted: int = 0
    records_dead: int = 0
    retries: int = 0
    logins: int = 0

    @classmethod
    def fresh(cls, index: int, first: int, batches: int) -> Self:
        """A chunk of which nothing is settled; InvalidInputError if an item cannot account for so many batches."""
        if not 1 <= batches <= MAX_BATCHES_PER_CHUNK:
            raise InvalidInputError(f"a chunk has 1 to {MAX_BATCHES_PER_CHUNK:,} batches, not {batches:,}")
        return cls(index, first, batches, settled_to=first)

    @property
    def settled_batches(self) -> int:
        """How many batches are settled."""
        return self.settled_to - self.first + len(self.settled_beyond)

    @property
    def accepted_batches(self) -> int:
        """How many of them were accepted."""
        return self.settled_batches - len(self.dead)

    @property
    def finished(self) -> bool:
        """Nothing is left to post."""
        return self.settled_batches == self.batches

    def is_settled(self, number: int) -> bool:
        """Whether a batch needs nothing more."""
        return number < self.settled_to or number in self.settled_beyond

    def settle(self, settled: Iterable[Settled], *, logins: int = 0, retries: int = 0) -> Self:
        """The state after these batches, of this chunk, were settled too; one that was before changes nothing.

        ``retries`` are of batches that are not settled.
        """
        beyond, dead = set(self.settled_beyond), list(self.dead)
        accepted_records, dead_records, retries = self.records_accepted, self.records_dead, self.retries + retries
        for each in settled:
            if not self.first <= each.number < self.first + self.batches:
                raise ValueError(f"batch {each.number} is not of chunk {self.index}")
            if each.number < self.settled_to or each.number in beyond:
                continue
            beyond.add(each.number)
            retries += each.retries
            if each.accepted:
                accepted_records += each.records
            else:
                dead_records += each.records
                dead.append(each.number)
        to = self.settled_to
        while to in beyond:
            beyond.remove(to)
            to += 1
        return replace(
            self,
            settled_to=to,
            settled_beyond=frozenset(beyond),
            dead=tuple(dead),
            records_accepted=accepted_records,
            records_dead=dead_records,
            retries=retries,
            logins=self.logins + logins,
        )


class FileOutcome(StrEnum):
    """How a file version ended."""

    PROCESSED = "processed"
    """Every record was accepted."""
    PROCESSED_WITH_DEAD_LETTERS = "processed with dead letters"
    """Every record was accepted or kept for a replay."""
    INCOMPLETE = "incomplete"
    """Some records are neither: the run failed, and the file can be taken up again."""
    NOT_PLANNED = "not planned"
    """The run failed before it could cut the file: nothing was posted, and the file can be taken up again."""
    UNREADABLE = "unreadable"
    """The file cannot be read, whoever tries: nothing was posted."""

    @property
    def failed(self) -> bool:
        """Whether the run that ends so has failed."""
        return self in (FileOutcome.INCOMPLETE, FileOutcome.NOT_PLANNED, FileOutcome.UNREADABLE)


@dataclass(frozen=True)
class Range:
    """One chunk (see :class:`Chunk`), accounted for."""

    start: int
    stop: int
    first_record: int
    records_read: int
    records_accepted: int
    records_dead_lettered: int
    batches_read: int
    batches_accepted: int
    batches_dead_lettered: int

    @property
    def problem(self) -> str | None:
        """What does not add up."""
        records = self.records_accepted + self.records_dead_lettered
        batches = self.batches_accepted + self.batches_dead_lettered
        if (records, batches) == (self.records_read, self.batches_read):
            return None
        return (
            f"bytes {self.start:,} to {self.stop:,}, from record {self.first_record:,}: {records:,} of "
            f"{self.records_read:,} records and {batches:,} of {self.batches_read:,} batches are accounted for"
        )


@dataclass(frozen=True)
class Receipt:
    """What became of every record of a file version, as one run saw it.

    Args:
        error: why the file could not be read, or not be planned by this run.
        nothing_read: how a file version ended of which there are no numbers.
        bytes: of the object as it was delivered.
        text_bytes: of the text as UTF-8, decompressed.
        invalid_bytes: of the text, that U+FFFD stands for.
        records_read: lines that are not blank.
        ranges: one per chunk of the plan.
        problems: what does not add up; empty if all does.
        auth_calls: logins at the API.
        retries: posts beyond the first of each batch.
    """

    file: FileVersion
    run_id: str
    started_at: datetime
    finished_at: datetime
    error: str | None = None
    nothing_read: FileOutcome | None = None
    bytes: int = 0
    text_bytes: int = 0
    invalid_bytes: int = 0
    records_read: int = 0
    batches_read: int = 0
    ranges: tuple[Range, ...] = ()
    problems: tuple[str, ...] = ()
    auth_calls: int = 0
    retries: int = 0

    @property
    def totals(self) -> dict[str, int]:
        """Records and batches that were read, accepted and dead-lettered."""

        def total(name: str) -> int:
            return sum(getattr(each, name) for each in self.ranges)

        return {
            "records_read": self.records_read,
            **{name: total(name) for name in ("records_accepted", "records_dead_lettered")},
            "batches_read": self.batches_read,
            **{name: total(name) for name in ("batches_accepted", "batches_dead_lettered")},
        }

    @property
    def outcome(self) -> FileOutcome:
        """How the file version ended."""
        if self.nothing_read is not None:
            return self.nothing_read
        if self.error is not None or self.problems:
            return FileOutcome.INCOMPLETE
        return (
            FileOutcome.PROCESSED_WITH_DEAD_LETTERS if self.totals["batches_dead_lettered"] else FileOutcome.PROCESSED
        )

    def to_document(self) -> dict[str, Any]:
        """The JSON document that goes to S3."""
        return {
            **asdict(self.file),
            "run_id": self.run_id,
            "outcome": self.outcome.value,
            "error": self.error,
            **self.totals,
            "bytes": self.bytes,
            "text_bytes": self.text_bytes,
            "invalid_bytes": self.invalid_bytes,
            "auth_calls": self.auth_calls,
            "retries": self.retries,
            "started_at": self.started_at.astimezone(UTC).isoformat(),
            "finished_at": self.finished_at.astimezone(UTC).isoformat(),
            "duration_seconds": (self.finished_at - self.started_at).total_seconds(),
            "problems": list(self.problems),
            "ranges": [asdict(each) for each in self.ranges],
        }
