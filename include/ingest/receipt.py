"""What became of every record of a file version (spec: ingest, Receipt)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from include.ingest.claim import FileVersion


class Outcome(StrEnum):
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
        return self in (Outcome.INCOMPLETE, Outcome.NOT_PLANNED, Outcome.UNREADABLE)


@dataclass(frozen=True)
class Range:
    """One chunk, accounted for.

    Args:
        start: offset of its first byte in the stored object.
        stop: offset after its last byte.
    """

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
    def wrong(self) -> str | None:
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
    """A run's account of a file version.

    Args:
        file: the version as it was announced.
        run_id: of the run that made this account.
        error: why the file could not be read, or not be planned by this run.
        nothing_read: how a file version ended of which there are no numbers.
        bytes: of the object as it was delivered.
        text_bytes: after decompression.
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
    nothing_read: Outcome | None = None
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
        return {
            "records_read": self.records_read,
            "records_accepted": sum(each.records_accepted for each in self.ranges),
            "records_dead_lettered": sum(each.records_dead_lettered for each in self.ranges),
            "batches_read": self.batches_read,
            "batches_accepted": sum(each.batches_accepted for each in self.ranges),
            "batches_dead_lettered": sum(each.batches_dead_lettered for each in self.ranges),
        }

    @property
    def outcome(self) -> Outcome:
        """How the file version ended."""
        if self.nothing_read is not None:
            return self.nothing_read
        if self.error is not None or self.problems:
            return Outcome.INCOMPLETE
        return Outcome.PROCESSED_WITH_DEAD_LETTERS if self.totals["batches_dead_lettered"] else Outcome.PROCESSED

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
