"""The request bodies of a chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import batched, chain

import msgspec

from include.call_details.content import UTF_8, exactly, read_text
from include.call_details.keys import idempotency_key
from include.call_details.models import Chunk, Plan
from include.call_details.records import records, texts_of, whole_lines
from include.errors import InvalidFileError

_SLICE_BYTES = 256 * 1024
"""Of text that is cut into lines at once: these stay in the processor's cache, and posting is not held up for long."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One request.

    Args:
        number: from 0 through the whole file.
        first_record: number of its first record in the file, from 1.
        count: how many records it has.
        idempotency_key: the same for the same batch, always.
        body: the JSON document to post.
    """

    number: int
    first_record: int
    count: int
    idempotency_key: str
    body: bytes = field(repr=False)


def timestamp(moment: datetime) -> str:
    """An aware time as the API takes it: ISO 8601 in UTC with milliseconds and ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_batches(
    blocks: Iterable[bytes], plan: Plan, chunk: Chunk, *, settled: Callable[[int], bool] = lambda number: False
) -> Iterator[Batch]:
    """Cut a chunk into its batches, holding one at a time.

    The same plan and chunk give the same bodies, byte for byte, so that a batch may be posted again.

    Args:
        blocks: the stored object's bytes from ``chunk.start`` to ``chunk.stop``, cut anywhere.
        plan: see :func:`include.call_details.planner.make_plan`.
        chunk: one of the plan's.
        settled: whether the batch of a number is settled, so that it need not be made.

    Raises:
        InvalidFileError: the object is not the one that was planned.
        StorageUnavailableError: S3 sent less than the chunk.
    """
    checked = exactly(blocks, chunk.stop - chunk.start)
    own = plan.gzip or plan.encoding != UTF_8
    text = read_text(checked, key=plan.file.key, size=plan.size).blocks if own else checked
    texts = chain.from_iterable(map(texts_of, whole_lines(_slices(text), start=chunk.start)))
    seen = 0
    for number, group in enumerate(batched(texts, plan.records_per_batch), chunk.first_batch):
        first_record = chunk.first_record + seen
        seen += len(group)
        if settled(number):
            continue
        body = _body(group, first_record, plan.timestamp)
        yield Batch(number, first_record, len(group), idempotency_key(plan.file, number), body)
    if seen != chunk.records:
        raise InvalidFileError(f"chunk {chunk.index} has {seen:,} records instead of the {chunk.records:,} planned")


def _slices(blocks: Iterable[bytes]) -> Iterator[bytes]:
    for block in blocks:
        for start in range(0, len(block), _SLICE_BYTES):
            yield block[start : start + _SLICE_BYTES]


def _body(texts: Sequence[bytes], first_record: int, timestamp: str) -> bytes:
    # Joined from the records as they are: to parse and write them again would cost time, and digits of numbers.
    joined = b",".join(records(texts, first_record))
    return b'{"records":[%b],"timestamp":%b,"batchSize":%d}' % (joined, msgspec.json.encode(timestamp), len(texts))
