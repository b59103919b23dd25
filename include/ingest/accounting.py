"""Compares what was planned with what the ledger knows: the arithmetic of the receipt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from include.ingest.chunk import ChunkState
from include.ingest.plan import Chunk, Plan
from include.ingest.receipt import Range, Receipt


def account(
    plan: Plan,
    states: Iterable[ChunkState],
    *,
    run_id: str,
    started_at: datetime,
    finished_at: datetime,
    error: str | None = None,
) -> Receipt:
    """The receipt of a file version that was planned.

    Args:
        plan: what was to be posted.
        states: the ledger's chunks of the plan's round; one that was never opened is missing.
        run_id: of the run that accounts.
        started_at: an aware time.
        finished_at: an aware time.
        error: why the run did not come as far as the plan, which an earlier one had made.
    """
    by_index = {state.index: state for state in states}
    ranges = tuple(_range(chunk, by_index.get(chunk.index)) for chunk in plan.chunks)
    return Receipt(
        file=plan.file,
        run_id=run_id,
        started_at=started_at,
        finished_at=finished_at,
        error=error,
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
        if each.wrong:
            yield each.wrong
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
