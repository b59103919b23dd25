"""The first step of a run: find the file version, claim it, and cut it into chunks in one pass that keeps no line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from include.call_details.content import exactly, read_text
from include.call_details.keys import failed_key, file_version, is_file, origin, plan_key, processing_key, receipt_key
from include.call_details.ledger import Claims
from include.call_details.models import (
    CHUNK_BYTES,
    MAX_BATCHES_PER_CHUNK,
    TASKS_AT_ONCE,
    Chunk,
    Claim,
    Done,
    FileVersion,
    LeaseHeld,
    Plan,
    Terms,
)
from include.call_details.records import (
    Piece,
    count_invalid_bytes,
    count_records,
    most_bytes,
    texts_of,
    timestamp,
    trimmed,
    whole_lines,
)
from include.call_details.storage import FileStore, StoredFile
from include.errors import FileChangedError, FileHeldError, InvalidFileError, InvalidInputError, RunRefusedError

MAX_RECORDS_PER_BATCH = 500


def resolve(store: FileStore, key: str, etag: str | None) -> FileVersion:
    """The version that a run's params mean: the key under which the file was dropped, or was moved to.

    Of a dropped file, the ETag tells which version; None means the newest. RunRefusedError: there is no such file.
    """
    moved = origin(store.bucket, key)
    if moved is not None:
        if etag and etag.strip('"') != moved.etag:
            raise RunRefusedError(
                f"params key and etag: {key!r} is version {moved.etag}, not {etag}; give one of the two"
            )
        return moved
    if not is_file(key):
        raise RunRefusedError(f"param key: {key!r} is not one under which a file can be dropped, nor a moved file's")
    if etag:
        return file_version(store.bucket, key, etag)
    there = store.head(key)
    newest = there.etag if there else store.last_etag(key)
    if newest is None:
        raise RunRefusedError(f"param key: there is no {key!r} in bucket {store.bucket}, nor was there lately")
    return file_version(store.bucket, key, newest)


def find(store: FileStore, file: FileVersion) -> StoredFile | None:
    """Where a version is now, or None if it is nowhere."""
    for key in _candidate_keys(store, file):
        for found in store.versions(key):
            # Its own key holds whatever was dropped there. All others hold this version alone: another object under
            # such a key was put there later, by hand.
            if key != file.key or found.etag.strip('"') == file.etag:
                return found
    return None


def is_moved(store: FileStore, file: FileVersion) -> bool:
    """Whether a version lies, too, under another key than the one under which it was dropped."""
    return any(store.versions(key) for key in _candidate_keys(store, file) if key != file.key)


def _why_gone(store: FileStore, file: FileVersion) -> str:
    """What became of a version that is nowhere, and what to do."""
    deletions = [(at, key) for key in _candidate_keys(store, file) if (at := store.deleted_at(key)) is not None]
    if not deletions:
        return f"{file.key} ({file.etag}) is nowhere in bucket {store.bucket}: drop it again and clear this run"
    # Moving it on deleted it at its earlier places.
    at, key = max(deletions)
    return (
        f"{file.key} ({file.etag}) was deleted at {at:%Y-%m-%d %H:%M:%S} UTC, when it lay at {key}: if that was not "
        "meant, drop it again and clear this run"
    )


def _candidate_keys(store: FileStore, file: FileVersion) -> Iterator[str]:
    yield processing_key(file)
    yield file.key
    yield failed_key(file)
    receipt = store.read_json(receipt_key(file))
    if receipt is not None and receipt["stored_as"] is not None:
        yield receipt["stored_as"]


class Planner:
    """Claims a file version for a run, and plans it; ``records_per_batch`` is for files never planned before."""

    def __init__(
        self,
        store: FileStore,
        claims: Claims,
        *,
        records_per_batch: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store = store
        self.claims = claims
        self._records_per_batch = records_per_batch
        self._now = now

    def claim(self, file: FileVersion, owner: str, *, force: bool = False) -> Claim | Done:
        """Claim the version for a run, or learn that it is done; raises FileHeldError if another run has it."""
        found = self.claims.claim(file, owner, force=force, begun=True)
        if isinstance(found, LeaseHeld):
            until = datetime.fromtimestamp(found.until, UTC)
            raise FileHeldError(
                f"run {found.owner} works on {file.key} ({file.etag}), at least until {until:%H:%M} UTC"
            )
        return found

    def plan(self, claim: Claim) -> Plan:
        """The plan of the claim's round: made once, and then the same for every attempt and every later owner.

        Raises as :func:`make_plan`, FileChangedError if the file is gone or replaced, and ClaimLostError.
        """
        stored = self._stored(claim.file)
        known = known_plan(self.store, claim)
        if known is not None and (known.key, known.etag) == (stored.key, stored.etag):
            return known
        # The same bytes under another key keep their chunks.
        plan = self._new_plan(claim, stored) if known is None else replace(known, key=stored.key, etag=stored.etag)
        key = plan_key(claim.file, claim.round)
        self.store.write_json(key, plan.to_document())
        self.claims.note_plan(claim, key)
        return plan

    def draft(self, file: FileVersion) -> Plan:
        """A plan by terms of its own, which hold once they are in the ledger; raises as :meth:`plan` does."""
        # Its ETag tells that it is the object which was dropped, if that was not uploaded in parts.
        key, etag = processing_key(file), f'"{file.etag}"'
        whole = self.store.whole(key, etag)
        if whole is None:
            return self._cut(file, self._stored(file), self._terms())
        size, blocks = whole
        return self._cut(file, StoredFile(key, etag, size), self._terms(), blocks)

    def _stored(self, file: FileVersion) -> StoredFile:
        """The version where it is, once it is where no other may be dropped."""
        stored = find(self.store, file)
        if stored is None:
            raise FileChangedError(_why_gone(self.store, file))
        if stored.key != file.key:
            return stored
        moved = self.store.copy(stored, processing_key(file))
        # A deletion withdraws the older versions, too, which nobody has claimed yet. The watcher takes them, and then
        # this one away.
        if len(self.store.versions(file.key)) == 1:
            self.store.remove(stored)
        return moved

    def _terms(self) -> Terms:
        return Terms(self._records_per_batch, timestamp(self._now()))

    def _cut(self, file: FileVersion, stored: StoredFile, terms: Terms, blocks: Iterable[bytes] | None = None) -> Plan:
        blocks = self.store.blocks(stored.key, stored.etag, 0, stored.size) if blocks is None else blocks
        return make_plan(file, stored, terms, blocks)

    def _new_plan(self, claim: Claim, stored: StoredFile) -> Plan:
        terms = claim.terms or self._terms()
        plan = self._cut(claim.file, stored, terms)
        # Only now: terms by which the file cannot be cut must not bind later runs. And before the plan is written: a
        # run that was faster has planned by other terms, and may have posted.
        fixed = self.claims.fix_terms(claim, terms)
        return plan if fixed.terms == terms else self._new_plan(fixed, stored)


def read_plan(store: FileStore, claim: Claim) -> Plan:
    """The plan that was noted in a claim; raises FileChangedError if it is gone."""
    plan = known_plan(store, claim)
    if plan is None:
        raise FileChangedError(f"the plan of {claim.file.key} ({claim.file.etag}) is gone: clear the task 'plan'")
    return plan


def known_plan(store: FileStore, claim: Claim) -> Plan | None:
    """The plan that was noted in a claim, or None if there is none (any more)."""
    document = store.read_json(claim.plan) if claim.plan else None
    return None if document is None else Plan.of(document, claim.file)


@dataclass(frozen=True)
class Limits:
    """How files are cut.

    Args:
        chunk_bytes: a chunk ends with the first batch that reaches so many, or sooner, so that all have about as many.
            Twice as many chunks as are posted at once are enough: those of a larger file are larger,
        largest_chunk_bytes: up to so many, which a task posts well within its time-out.
        two_chunk_bytes: a file of so many has two chunks at least.
        chunk_batches: a chunk of ``chunk_bytes`` ends with so many; a larger one with more.
        max_chunks: above 3, below Airflow's limit of mapped tasks (1,024). Chunks of a large file are larger instead.
        max_chunk_batches: what the ledger can account for in one chunk.
        max_batch_bytes: a batch is built in memory, as JSON. What begins among lines that are only counted is not
            measured, so a batch may have up to six times ``counted_bytes`` more: 128 MiB in all.
        counted_bytes: of so many bytes of lines at once may the records be counted without looking at each.
        part_bytes: lines that a chunk may end among are divided into parts of about so many, and looked at one by one
            only where it does.
    """

    chunk_bytes: int = CHUNK_BYTES
    largest_chunk_bytes: int = 1024 * 1024 * 1024
    two_chunk_bytes: int = 32 * 1024 * 1024
    chunk_batches: int = 2_000
    max_chunks: int = 900
    max_chunk_batches: int = MAX_BATCHES_PER_CHUNK
    max_batch_bytes: int = 98 * 1024 * 1024
    counted_bytes: int = 5 * 1024 * 1024
    part_bytes: int = 64 * 1024

    def grown(self, size: int, records_per_batch: int) -> Limits:
        """Chunks of about the same size for a file of ``size`` bytes, and large enough to be at most ``max_chunks``."""
        # Half of the chunks may end by bytes, half by batches, and the last one at the end of the file.
        half = (self.max_chunks - 1) // 2
        # A record has at least one byte and the end of its line.
        most_batches = size // (2 * records_per_batch) + 1
        shared = min(-(-size // (2 * TASKS_AT_ONCE)), self.largest_chunk_bytes)
        chunk_bytes = max(self.chunk_bytes, shared, -(-size // half))
        batches = max(self.chunk_batches * chunk_bytes // self.chunk_bytes, -(-most_batches // half))
        chunks = max(1, -(-size // chunk_bytes))
        if size >= self.two_chunk_bytes:
            chunks = max(2, chunks)
        return replace(self, chunk_bytes=max(1, -(-size // chunks)), chunk_batches=min(batches, self.max_chunk_batches))


def make_plan(
    file: FileVersion, stored: StoredFile, terms: Terms, blocks: Iterable[bytes], *, limits: Limits | None = None
) -> Plan:
    """Read a whole file, whose bytes come in blocks that are cut anywhere, and cut it by its terms.

    Raises:
        InvalidInputError: the records per batch are out of range, or too few for so many records.
        InvalidFileError: the file cannot be read, or not be posted whatever the settings say.
        StorageUnavailableError: S3 sent less than the whole object.
    """
    size, records_per_batch = stored.size, terms.records_per_batch
    if not 1 <= records_per_batch <= MAX_RECORDS_PER_BATCH:
        raise InvalidInputError(
            f"max_records_per_batch must be 1 to {MAX_RECORDS_PER_BATCH}, not {records_per_batch}: change settings"
        )
    limits = (limits or Limits()).grown(size, records_per_batch)
    cutter = _Cutter(limits, records_per_batch)
    text = read_text(exactly(blocks, size), key=file.key, size=size)
    text_bytes = invalid = 0
    for piece in whole_lines(text.blocks):
        invalid += count_invalid_bytes(piece)
        text_bytes = piece.stop
        cutter.take(piece)
    chunks = cutter.finish(text_bytes)
    if chunks and not text.stored_as_it_is:
        last = chunks[-1]
        records, batches = last.first_record + last.records - 1, last.first_batch + last.batches
        chunks = [Chunk(0, 0, size, 1, records, 0, batches)]
    if len(chunks) > limits.max_chunks or any(chunk.batches > limits.max_chunk_batches for chunk in chunks):
        reason = f"{cutter.records:,} records make too many batches of {records_per_batch}"
        if records_per_batch == MAX_RECORDS_PER_BATCH:
            raise InvalidFileError(f"{reason}: split the file, or deliver it uncompressed, as UTF-8")
        raise InvalidInputError(
            f"{reason}: raise max_records_per_batch, split the file, or deliver it uncompressed, as UTF-8"
        )
    return Plan(
        file=file,
        key=stored.key,
        etag=stored.etag,
        size=size,
        gzip=text.gzip,
        records_per_batch=records_per_batch,
        timestamp=terms.timestamp,
        records=cutter.records,
        text_bytes=text_bytes,
        invalid_bytes=invalid,
        chunks=tuple(chunks),
        encoding=text.encoding,
    )


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
        if no_end and len(piece) <= self._limits.counted_bytes:
            batch_ends = records // self._records_per_batch > self.records // self._records_per_batch
            self.records = records
            if batch_ends:
                self._batch_bytes = 0
            else:
                self._weigh(most_bytes(b"".join(texts_of(piece))))
            return
        first, *others = piece.parts(self._limits.part_bytes)
        if others:
            for part in (first, *others):
                self.take(part)
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
