"""How a file version is posted: cut into chunks of whole batches, each of which a task can read on its own."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from typing import Any

from include.ingest.claim import FileVersion


@dataclass(frozen=True)
class Chunk:
    """The work of one mapped task.

    Args:
        index: position in the plan, from 0.
        start: offset of its first byte in the stored object.
        stop: offset after its last byte.
        first_record: number of its first record in the file, from 1.
        records: how many it has.
        first_batch: number of its first batch in the file, from 0.
        batches: how many it has.
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
        file: the version as it was announced: its identity.
        key: where the object lies that tasks read.
        etag: its ETag there, for ``If-Match``; a move may change it.
        size: its bytes.
        gzip: it is compressed; its one chunk is the whole object.
        records_per_batch: see :class:`~include.ingest.claim.Terms`.
        timestamp: see there.
        records: lines that are not blank.
        text_bytes: bytes after decompression.
        invalid_bytes: bytes of the text that are not valid UTF-8.
        chunks: hold all records, in order; none if there are no records. Together they are the whole object.
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

    @property
    def batches(self) -> int:
        """How many batches the file has."""
        return -(-self.records // self.records_per_batch)

    def to_document(self) -> dict[str, Any]:
        """A JSON document; :meth:`from_document` reads it back."""
        return {**vars(self), "file": asdict(self.file), "chunks": [astuple(chunk) for chunk in self.chunks]}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Plan:
        """The plan that :meth:`to_document` wrote."""
        return cls(
            **{
                **document,
                "file": FileVersion(**document["file"]),
                "chunks": tuple(Chunk(*chunk) for chunk in document["chunks"]),
            }
        )
