"""Makes a plan in one pass over a file, whatever its size, and keeps no line of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from include.errors import InvalidFileError, InvalidInputError
from include.ingest.chunk import MAX_BATCHES_PER_CHUNK
from include.ingest.claim import FileVersion
from include.ingest.gunzip import gunzip
from include.ingest.lines import Piece, count_invalid_bytes, count_records, exactly, texts_of, trimmed, whole_lines
from include.ingest.plan import Chunk, Plan
from include.ingest.records import most_bytes

MAX_RECORDS_PER_BATCH = 500


@dataclass(frozen=True)
class Limits:
    """How files are cut.

    Args:
        chunk_bytes: a chunk ends with the first batch that reaches so many, or sooner, so that all have about as many.
        two_chunk_bytes: a file of so many has two chunks at least.
        chunk_batches: or has so many.
        max_chunks: above 3, below Airflow's limit of mapped tasks (1,024). Chunks of a large file are larger instead.
        max_chunk_batches: what the ledger can account for in one chunk.
        max_batch_bytes: a batch is built in memory, as JSON. What begins among lines that are only counted is not
            measured, so a batch may have up to six times ``counted_bytes`` more: 128 MiB in all.
        counted_bytes: of so many bytes of lines at once may the records be counted without looking at each.
    """

    # A task takes a second to start: so many bytes take the API several.
    chunk_bytes: int = 64 * 1024 * 1024
    two_chunk_bytes: int = 32 * 1024 * 1024
    chunk_batches: int = 2_000
    max_chunks: int = 900
    max_chunk_batches: int = MAX_BATCHES_PER_CHUNK
    max_batch_bytes: int = 98 * 1024 * 1024
    counted_bytes: int = 5 * 1024 * 1024

    def grown(self, size: int, records_per_batch: int) -> Limits:
        """Chunks of about the same size for a file of ``size`` bytes, and large enough to be at most ``max_chunks``."""
        # Half of the chunks may end by bytes, half by batches, and the last one at the end of the file.
        half = (self.max_chunks - 1) // 2
        # A record has at least one byte and the end of its line.
        most_batches = size // (2 * records_per_batch) + 1
        batches = max(self.chunk_batches, -(-most_batches // half))
        chunks = max(1, -(-size // max(self.chunk_bytes, -(-size // half))))
        if size >= self.two_chunk_bytes:
            chunks = max(2, chunks)
        return replace(
            self,
            chunk_bytes=max(1, -(-size // chunks)),
            chunk_batches=min(batches, self.max_chunk_batches),
        )


def make_plan(
    file: FileVersion,
    blocks: Iterable[bytes],
    *,
    key: str,
    etag: str,
    size: int,
    records_per_batch: int,
    timestamp: str,
    limits: Limits | None = None,
) -> Plan:
    """Read a whole file and cut it; a file whose original key ends in ``.gz`` is decompressed.

    Args:
        file: the version as it was announced.
        blocks: the object's bytes from the first to the last, cut anywhere.
        key: where the object lies.
        etag: its ETag there.
        size: its bytes.
        records_per_batch: 1 to 500.
        timestamp: see :class:`~include.ingest.plan.Plan`.
        limits: for tests.

    Raises:
        InvalidInputError: the records per batch are out of range, or too few for so many records.
        InvalidFileError: the file cannot be read, or not be posted whatever the settings say.
        StorageUnavailableError: S3 sent less than the whole object.
    """
    if not 1 <= records_per_batch <= MAX_RECORDS_PER_BATCH:
        raise InvalidInputError(
            f"max_records_per_batch must be 1 to {MAX_RECORDS_PER_BATCH}, not {records_per_batch}: change settings"
        )
    compressed = file.key.lower().endswith(".gz")
    limits = (limits or Limits()).grown(size, records_per_batch)
    cutter = _Cutter(limits, records_per_batch)
    checked = exactly(blocks, size)
    text_bytes = invalid = 0
    for piece in whole_lines(gunzip(checked, size=size) if compressed else checked):
        invalid += count_invalid_bytes(piece.data)
        text_bytes = piece.stop
        cutter.take(piece)
    chunks = cutter.finish(text_bytes if compressed else size)
    if compressed and chunks:
        chunks = [_one(chunks, size)]
    if len(chunks) > limits.max_chunks or any(chunk.batches > limits.max_chunk_batches for chunk in chunks):
        reason = f"{cutter.records:,} records make too many batches of {records_per_batch}"
        if records_per_batch == MAX_RECORDS_PER_BATCH:
            raise InvalidFileError(f"{reason}: split the file, or deliver it uncompressed")
        raise InvalidInputError(f"{reason}: raise max_records_per_batch, split the file, or deliver it uncompressed")
    return Plan(
        file=file,
        key=key,
        etag=etag,
        size=size,
        gzip=compressed,
        records_per_batch=records_per_batch,
        timestamp=timestamp,
        records=cutter.records,
        text_bytes=text_bytes if compressed else size,
        invalid_bytes=invalid,
        chunks=tuple(chunks),
    )


def _one(chunks: list[Chunk], size: int) -> Chunk:
    last = chunks[-1]
    return Chunk(0, 0, size, 1, last.first_record + last.records - 1, 0, last.first_batch + last.batches)


class _Cutter:
    """Finds where chunks end. Lines are looked at one by one only where a chunk may."""

    def __init__(self, limits: Limits, records_per_batch: int) -> None:
        self.records = 0
        self._limits = limits
        self._records_per_batch = records_per_batch
        self._chunks: list[Chunk] = []
        self._start = 0
        self._before = 0
        # Of the records looked at since the last end of a batch: less than the batch has if its beginning was not.
        self._batch_bytes = 0

    def take(self, piece: Piece) -> None:
        """The next lines."""
        records = self.records + count_records(piece)
        most = self._limits.chunk_batches * self._records_per_batch
        no_end = piece.stop - self._start < self._limits.chunk_bytes and records - self._before < most
        if no_end and len(piece.data) <= self._limits.counted_bytes:
            batch_ends = records // self._records_per_batch > self.records // self._records_per_batch
            self.records = records
            if batch_ends:
                self._batch_bytes = 0
            else:
                self._weigh(most_bytes(b"".join(texts_of(piece))))
            return
        stop = piece.start
        for line in piece.data.split(b"\n"):
            stop += len(line) + 1
            if text := trimmed(line):
                self._take_record(most_bytes(text), stop)

    def finish(self, size: int) -> list[Chunk]:
        """All chunks; the last one reaches to the end of the file, blank lines included."""
        # Of a last line without an end, one was counted all the same.
        if self.records > self._before:
            self._cut(size)
        elif self._chunks:
            self._chunks[-1] = replace(self._chunks[-1], stop=size)
        return self._chunks

    def _take_record(self, length: int, stop: int) -> None:
        self.records += 1
        self._weigh(length)
        if self.records % self._records_per_batch == 0:
            self._batch_bytes = 0
            batches = (self.records - self._before) // self._records_per_batch
            if stop - self._start >= self._limits.chunk_bytes or batches >= self._limits.chunk_batches:
                self._cut(stop)

    def _weigh(self, length: int) -> None:
        self._batch_bytes += length
        if self._batch_bytes > self._limits.max_batch_bytes:
            raise InvalidFileError(
                f"the batch of record {self.records:,} may have more than {self._limits.max_batch_bytes:,} bytes as "
                "JSON: lower max_records_per_batch, or split the file's longest lines"
            )

    def _cut(self, stop: int) -> None:
        records = self.records - self._before
        self._chunks.append(
            Chunk(
                index=len(self._chunks),
                start=self._start,
                stop=stop,
                first_record=self._before + 1,
                records=records,
                first_batch=self._before // self._records_per_batch,
                batches=-(-records // self._records_per_batch),
            )
        )
        self._start, self._before = stop, self.records
