"""The last step of a run: the receipt is written, the file moved on, the claim completed, in that order.

Each can be repeated, so a run that dies in between is closed by its retry. The receipt compares what was planned with
what the ledger knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from include.call_details.keys import PROCESSED, failed_key, processed_day, processed_key, receipt_key
from include.call_details.ledger import Claims, read_chunks
from include.call_details.models import Chunk, ChunkState, Claim, Done, FileOutcome, FileVersion, Plan, Range, Receipt
from include.call_details.planner import find, known_plan, read_plan
from include.call_details.storage import FileStore, StoredFile
from include.clients.dynamodb import Item
from include.errors import ClaimLostError


@dataclass(frozen=True)
class SavedReceipt:
    """A receipt as it is in the bucket.

    Its document is that of :meth:`~include.call_details.models.Receipt.to_document`, with ``stored_as``: the file's
    key, or None if the file is gone; and ``not_ingested``: the key of an object that was put in the file's place while
    it was ingested, or None.
    """

    key: str
    document: dict[str, Any]

    @property
    def outcome(self) -> FileOutcome:
        """How the file version ended."""
        return FileOutcome(self.document["outcome"])

    @property
    def day(self) -> date:
        """The UTC day on which the operations page has the file: that in its key, which later rounds leave as it is."""
        key: str = self.document["stored_as"] or ""
        if key.startswith(PROCESSED):
            return processed_day(key)
        return datetime.fromisoformat(self.document["finished_at"]).date()


@dataclass(frozen=True)
class Known:
    """What was read of many files at once, and need not be read for each.

    Args:
        seen: the claim as it is stored.
        pointer: see :meth:`~include.call_details.ledger.Claims.pointers`.
        plan: of the claim's round.
        states: of those of its chunks that were ever opened.
    """

    claim: Claim
    seen: Item
    pointer: Item | None
    plan: Plan
    states: tuple[ChunkState, ...]


@dataclass(frozen=True)
class Closing:
    """Closes one file of a run: one method for each way in which planning can end.

    Each raises ClaimLostError if another run has taken over, or has done it.

    Args:
        run_id: the run: the claim's owner.
        started_at: an aware time.
        now: an aware time; the file is filed under its UTC day.
        known: None if nothing was read yet.
    """

    store: FileStore
    claims: Claims
    file: FileVersion
    run_id: str
    started_at: datetime
    now: datetime
    known: Known | None = None

    def planned(self) -> SavedReceipt:
        """Account for a file that was planned, as far as its chunks have come.

        Raises:
            FileChangedError: the run's plan is gone; or, of a known one, the file does not lie where it was planned.
        """
        known = self.known
        claim = known.claim if known else self._claim()
        if isinstance(claim, SavedReceipt):
            return claim
        receipt = self._account(claim, known.plan if known else read_plan(self.store, claim))
        if receipt.outcome is FileOutcome.INCOMPLETE:
            return self._leave_open(claim, receipt)
        stored = StoredFile(known.plan.key, known.plan.etag, known.plan.size) if known else find(self.store, self.file)
        key = processed_key(self.file, self.now.date())
        not_ingested = stored.key if stored and not stored.latest else None
        saved = self._saved(receipt, key if stored else None, not_ingested)
        if not self.store.create_json(saved.key, saved.document):
            # A file that was moved on before, or was to be when an earlier attempt died, goes to the same key.
            before = self.store.read_json(saved.key) or {"stored_as": None}
            if (before["stored_as"] or "").startswith(PROCESSED):
                key = before["stored_as"]
            saved = self._save(receipt, key if stored else None, not_ingested=not_ingested)
        if stored is not None:
            self._move(stored, key)
        self.claims.complete(
            claim, saved.key, pointer=known.pointer if known else None, seen=known.seen if known else None
        )
        return saved

    def unreadable(self, error: str) -> SavedReceipt | None:
        """Account for a file that cannot be read at all. Its claim is not completed: dropped again, it is tried again.

        Returns None if it was posted again by force: the first round's receipt stays as it is.
        """
        claim = self._claim()
        if isinstance(claim, SavedReceipt):
            return None
        stored = find(self.store, self.file)
        if claim.round > 1:
            self.claims.complete(claim, receipt_key(self.file))
            return None
        receipt = self._receipt(error, nothing_read=FileOutcome.UNREADABLE)
        saved = self._save(receipt, failed_key(self.file) if stored else None)
        if stored is not None:
            self._move(stored, failed_key(self.file))
        self.claims.forget(claim)
        return saved

    def not_planned(self, error: str) -> SavedReceipt | None:
        """Account for a file that this run could not plan. The file stays where it is, for the next attempt.

        Returns None if the file is not this run's, or has the receipt of an earlier round, which says more.
        """
        try:
            claim = self.claims.current(self.file, self.run_id)
        except ClaimLostError:
            return None
        plan = known_plan(self.store, claim)
        if plan is not None:
            return self._leave_open(claim, self._account(claim, plan, error))
        before = self.store.read_json(receipt_key(self.file))
        if before is None or FileOutcome(before["outcome"]) in (FileOutcome.NOT_PLANNED, FileOutcome.UNREADABLE):
            return self._leave_open(claim, self._receipt(error, nothing_read=FileOutcome.NOT_PLANNED))
        self.claims.release(claim)
        return None

    def _claim(self) -> Claim | SavedReceipt:
        """The run's claim, or its receipt if it closed the file before and died."""
        found = self.claims.claim(self.file, self.run_id)
        if isinstance(found, Claim):
            return found
        if isinstance(found, Done) and found.owner == self.run_id:
            document = self.store.read_json(found.receipt)
            if document is not None:
                return SavedReceipt(found.receipt, document)
        raise ClaimLostError(f"run {found.owner} has taken over {self.file.key} ({self.file.etag}), or has done it")

    def _move(self, stored: StoredFile, key: str) -> None:
        # Where it was dropped, it was dropped again: a deletion there would withdraw older versions, which nobody has
        # claimed yet. The watcher takes them, and then this one away.
        (self.store.copy if stored.key == self.file.key else self.store.move)(stored, key)

    def _account(self, claim: Claim, plan: Plan, error: str | None = None) -> Receipt:
        states = self.known.states if self.known else read_chunks(self.claims.table, claim)
        return account(self._receipt(error), plan, states)

    def _receipt(self, error: str | None, *, nothing_read: FileOutcome | None = None) -> Receipt:
        return Receipt(self.file, self.run_id, self.started_at, self.now, error, nothing_read)

    def _leave_open(self, claim: Claim, receipt: Receipt) -> SavedReceipt:
        """Save the receipt of a file that stays where it is, if it still is anywhere, and release the claim."""
        stored = find(self.store, self.file)
        saved = self._save(receipt, stored.key if stored else None)
        # Nobody can finish a file that is gone.
        (self.claims.release if stored else self.claims.forget)(claim)
        return saved

    def _save(self, receipt: Receipt, stored_as: str | None, *, not_ingested: str | None = None) -> SavedReceipt:
        saved = self._saved(receipt, stored_as, not_ingested)
        self.store.write_json(saved.key, saved.document)
        return saved

    def _saved(self, receipt: Receipt, stored_as: str | None, not_ingested: str | None) -> SavedReceipt:
        places = {"stored_as": stored_as, "not_ingested": not_ingested}
        return SavedReceipt(receipt_key(self.file), receipt.to_document() | places)


def account(receipt: Receipt, plan: Plan, states: Iterable[ChunkState]) -> Receipt:
    """A receipt with the numbers of a file version that was planned.

    They are those of the ledger's chunks of the plan's round; one that was never opened is missing. The receipt's
    ``error`` is why this run could not plan the file, though an earlier one had.
    """
    by_index = {state.index: state for state in states}
    ranges = tuple(_range(chunk, by_index.get(chunk.index)) for chunk in plan.chunks)
    return replace(
        receipt,
        bytes=plan.size,
        text_bytes=plan.text_bytes,
        invalid_bytes=plan.invalid_bytes,
        records_read=plan.records,
        batches_read=plan.batches,
        ranges=ranges,
        problems=tuple(_problems(plan, ranges, by_index)),
        auth_calls=sum(state.logins for state in by_index.values()),
        retries=sum(state.retries for state in by_index.values()),
    )


def _range(chunk: Chunk, state: ChunkState | None) -> Range:
    return Range(
        start=chunk.start,
        stop=chunk.stop,
        first_record=chunk.first_record,
        records_read=chunk.records,
        records_accepted=state.records_accepted if state else 0,
        records_dead_lettered=state.records_dead if state else 0,
        batches_read=chunk.batches,
        batches_accepted=state.accepted_batches if state else 0,
        batches_dead_lettered=len(state.dead) if state else 0,
    )


def _problems(plan: Plan, ranges: Sequence[Range], states: Mapping[int, ChunkState]) -> Iterator[str]:
    position, record, batches = 0, 1, 0
    for each in ranges:
        if (each.start, each.first_record) != (position, record):
            yield f"bytes {position:,} to {each.start:,}, from record {record:,}, are in no chunk"
        if each.problem:
            yield each.problem
        position, record, batches = each.stop, each.first_record + each.records_read, batches + each.batches_read
    if (record - 1, batches) != (plan.records, plan.batches) or position != (plan.size if ranges else 0):
        yield (
            f"the chunks have {record - 1:,} records in {batches:,} batches and {position:,} bytes, the file has "
            f"{plan.records:,} in {plan.batches:,} and {plan.size:,}"
        )
    for index, state in states.items():
        in_dead = sum(
            min(plan.records_per_batch, plan.records - plan.records_per_batch * batch) for batch in state.dead
        )
        if state.records_dead != in_dead:
            yield f"chunk {index}: its dead letters hold {in_dead:,} records, the ledger says {state.records_dead:,}"
    if unknown := states.keys() - {chunk.index for chunk in plan.chunks}:
        yield f"the ledger knows chunks that were not planned: {', '.join(map(str, sorted(unknown)))}"
