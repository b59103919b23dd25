import gzip
import json
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.call_details.models import Chunk, FileVersion, Plan, Terms
from include.call_details.planner import Limits, make_plan
from include.call_details.storage import StoredFile
from include.errors import InvalidFileError, InvalidInputError, StorageUnavailableError
from tests.worlds.call_details_reference import (
    FILES,
    in_blocks,
    reference_chunks,
    reference_invalid_bytes,
    reference_texts,
)

FILE = FileVersion("bucket", "incoming/calls.txt", "etag")


def planned(
    content: bytes | Iterable[bytes],
    *,
    per_batch: int = 500,
    block: int = 1000,
    size: int | None = None,
    key: str = FILE.key,
    limits: Limits | None = None,
) -> Plan:
    return make_plan(
        replace(FILE, key=key),
        StoredFile("processing/etag/calls.txt", "moved", len(content) if isinstance(content, bytes) else size or 0),
        Terms(per_batch, "2026-03-08T10:00:00.000Z"),
        in_blocks(content, block) if isinstance(content, bytes) else content,
        limits=limits,
    )


@given(FILES, st.integers(1, 4), st.integers(1, 300), st.integers(1, 6), st.integers(1, 50))
def test_chunks_are_whole_batches_and_together_the_file(
    content: bytes, per_batch: int, chunk_bytes: int, chunk_batches: int, block: int
) -> None:
    limits = Limits(chunk_bytes=chunk_bytes, chunk_batches=chunk_batches)
    plan = planned(content, per_batch=per_batch, block=block, limits=limits)
    grown = limits.grown(len(content), per_batch)
    assert plan.records == sum(chunk.records for chunk in plan.chunks) == len(reference_texts(content))
    assert plan.batches == sum(chunk.batches for chunk in plan.chunks)
    position, record, batch = 0, 1, 0
    for index, chunk in enumerate(plan.chunks):
        assert chunk.index == index
        assert (chunk.start, chunk.first_record, chunk.first_batch) == (position, record, batch)
        assert len(reference_texts(b"\n" * bool(index) + content[chunk.start : chunk.stop])) == chunk.records > 0
        assert chunk.batches == -(-chunk.records // per_batch)
        if chunk is not plan.chunks[-1]:
            assert chunk.records % per_batch == 0
            assert content[chunk.stop - 1 : chunk.stop] == b"\n"
            assert chunk.stop - chunk.start >= grown.chunk_bytes or chunk.batches == grown.chunk_batches
        assert chunk.batches <= grown.chunk_batches
        position, record, batch = chunk.stop, record + chunk.records, batch + chunk.batches
    assert position == (len(content) if plan.chunks else 0)


@given(FILES, st.integers(1, 4), st.integers(1, 300), st.integers(1, 6), st.integers(1, 50), st.integers(1, 50))
def test_plan_is_that_of_the_reference(
    content: bytes, per_batch: int, chunk_bytes: int, chunk_batches: int, block: int, part: int
) -> None:
    limits = Limits(chunk_bytes=chunk_bytes, chunk_batches=chunk_batches, part_bytes=part)
    plan = planned(content, per_batch=per_batch, block=block, limits=limits)
    grown = limits.grown(len(content), per_batch)
    expected = reference_chunks(
        content, per_batch=per_batch, chunk_bytes=grown.chunk_bytes, chunk_batches=grown.chunk_batches
    )
    assert [(chunk.start, chunk.stop, chunk.records) for chunk in plan.chunks] == expected
    assert plan.invalid_bytes == reference_invalid_bytes(content)


@given(FILES, st.integers(1, 300), st.integers(1, 50), st.integers(1, 50))
def test_the_plan_does_not_depend_on_how_the_file_arrives(
    content: bytes, chunk_bytes: int, one: int, other: int
) -> None:
    limits = Limits(chunk_bytes=chunk_bytes)
    assert planned(content, per_batch=2, block=one, limits=limits) == planned(
        content, per_batch=2, block=other, limits=limits
    )


@given(FILES, st.integers(1, 3), st.integers(3, 9))
def test_there_are_never_more_chunks_than_may_be_mapped(content: bytes, per_batch: int, max_chunks: int) -> None:
    limits = Limits(chunk_bytes=1, chunk_batches=1, max_chunks=max_chunks)
    assert len(planned(content, per_batch=per_batch, limits=limits).chunks) <= max_chunks


@pytest.mark.parametrize("line", [b"1\n", b"1234567\n", b"x" * 999 + b"\n"], ids=len)
def test_a_large_file_has_larger_chunks(line: bytes) -> None:
    limits = Limits(chunk_bytes=10_000, largest_chunk_bytes=10_000, chunk_batches=10, max_chunks=100)
    chunks = planned(line * (3_000_000 // len(line)), per_batch=5, limits=limits).chunks
    assert 40 <= len(chunks) <= 100
    lengths = [chunk.stop - chunk.start for chunk in chunks[:-1]]
    assert max(lengths) - min(lengths) < 5 * len(line)


def test_a_file_of_a_million_records_is_cut_for_several_tasks() -> None:
    line = b'{"from":"+4912345678","to":"+4987654321","start":"2026-03-08T10:00:00Z","seconds":61,"cell":"%06d"}\n'
    plan = planned((line * 10_000 for _ in range(100)), size=len(line) * 1_000_000)
    assert (plan.records, plan.batches, len(plan.chunks)) == (1_000_000, 2_000, 2)
    assert all(chunk.records % 500 == 0 for chunk in plan.chunks)
    assert abs(plan.chunks[0].batches - plan.chunks[1].batches) < 100, "so that both tasks end at about the same time"


@pytest.mark.parametrize(
    ("megabytes", "chunks", "chunk_megabytes"),
    [(31, 1, 31), (64, 2, 32), (500, 8, 63), (1_000, 8, 125), (8_000, 8, 1_000), (100_000, 98, 1_021)],
)
def test_tasks_of_a_large_file_are_few_and_of_about_the_same_size(
    megabytes: int, chunks: int, chunk_megabytes: int
) -> None:
    size = megabytes * 2**20
    grown = Limits().grown(size, 500)
    assert (-(-size // grown.chunk_bytes), -(-grown.chunk_bytes // 2**20)) == (chunks, chunk_megabytes)
    assert grown.chunk_batches * 500 * 68 >= grown.chunk_bytes, "lines of 68 bytes or more end no chunk earlier"


@pytest.mark.parametrize("size", [10**6, 10**9, 10**12, 5 * 2**40])
@pytest.mark.parametrize("per_batch", [1, 500])
def test_the_limits_hold_for_files_of_any_size(size: int, per_batch: int) -> None:
    limits = Limits()
    assert limits.max_chunks < 1_024, "what Airflow maps at most"
    grown = limits.grown(size, per_batch)
    by_bytes, by_batches = -(-size // grown.chunk_bytes), size / 2 / per_batch / grown.chunk_batches
    assert by_bytes <= limits.max_chunks / 2
    assert by_batches <= limits.max_chunks / 2 or grown.chunk_batches == limits.max_chunk_batches


def test_plan_counts_records_and_bytes_of_the_file() -> None:
    content = b"\xef\xbb\xbfa\n\n\xff\xfe \xe2\x82\n\n"
    assert planned(content) == Plan(
        file=FILE,
        key="processing/etag/calls.txt",
        etag="moved",
        size=len(content),
        gzip=False,
        records_per_batch=500,
        timestamp="2026-03-08T10:00:00.000Z",
        records=2,
        text_bytes=len(content),
        invalid_bytes=4,
        chunks=(Chunk(0, 0, len(content), 1, 2, 0, 1),),
    )


def test_a_gzip_file_is_one_chunk() -> None:
    text = b"line\n" * 10_000
    content = gzip.compress(text)
    limits = Limits(chunk_bytes=100)
    plan = planned(content, key="incoming/CALLS.TXT.GZ", limits=limits)
    assert (plan.gzip, plan.text_bytes, plan.size) == (True, len(text), len(content))
    assert plan.chunks == (Chunk(0, 0, len(content), 1, 10_000, 0, 20),)
    assert planned(content, limits=limits).chunks == plan.chunks, "the content tells, not the name"
    assert not planned(text, key="incoming/CALLS.TXT.GZ").gzip


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_utf_16_file_is_one_chunk(encoding: str) -> None:
    text = "\ufeff" + "Zażółć 🌞\r\n" * 1_000
    content = text.encode(encoding)
    plan = planned(content, limits=Limits(chunk_bytes=100))
    assert (plan.encoding, plan.text_bytes, plan.invalid_bytes) == (encoding, len(text.encode()), 0)
    assert plan.chunks == (Chunk(0, 0, len(content), 1, 1_000, 0, 2),)


def test_plan_is_read_as_it_was_written() -> None:
    plan = planned(b"line\n" * 100, per_batch=3, limits=Limits(chunk_bytes=50))
    assert len(plan.chunks) > 1
    document = json.loads(json.dumps(plan.to_document()))
    assert Plan.from_document(document) == plan
    del document["encoding"]
    assert Plan.from_document(document) == plan, "as earlier versions wrote it"


@pytest.mark.parametrize("per_batch", [0, -1, 501])
def test_a_batch_size_out_of_range_is_refused(per_batch: int) -> None:
    with pytest.raises(InvalidInputError, match="max_records_per_batch must be 1 to 500"):
        planned(b"", per_batch=per_batch)


@pytest.mark.parametrize(
    ("content", "key", "limits"),
    [
        (b"1\n" * 1000, FILE.key, Limits(chunk_batches=1, max_chunk_batches=1, max_chunks=9)),
        (gzip.compress(b"1\n" * 1000), "incoming/a.gz", Limits(max_chunk_batches=9)),
    ],
    ids=["plain", "gzip"],
)
def test_more_batches_than_can_be_accounted_for_are_refused(content: bytes, key: str, limits: Limits) -> None:
    with pytest.raises(InvalidInputError, match="1,000 records make too many batches of 1"):
        planned(content, key=key, per_batch=1, limits=limits)


def test_more_batches_than_any_setting_helps_against_are_the_files_own_fault() -> None:
    content = gzip.compress(b"1\n" * 5_000)
    with pytest.raises(InvalidFileError, match="5,000 records make too many batches of 500: split the file"):
        planned(content, key="incoming/a.gz", per_batch=500, limits=Limits(max_chunk_batches=9))
    with pytest.raises(InvalidInputError, match="raise max_records_per_batch"):
        planned(content, key="incoming/a.gz", per_batch=499, limits=Limits(max_chunk_batches=9))


def test_a_file_that_arrives_in_part_is_not_planned() -> None:
    with pytest.raises(StorageUnavailableError, match="sent 5 bytes of the file instead of 6"):
        planned([b"line\n"], size=6)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_a_batch_that_would_not_fit_into_memory_is_refused(block: int) -> None:
    limits = Limits(chunk_bytes=10, max_batch_bytes=100)
    fits = b"x" * 24 + b"\n"
    assert planned(fits * 8, per_batch=4, block=block, limits=limits).records == 8
    with pytest.raises(InvalidFileError, match=r"the batch of record \d+ may have more than 100 bytes"):
        planned(fits * 4 + (b"x" * 40 + b"\n") * 4, per_batch=4, block=block, limits=limits)


@pytest.mark.parametrize("block", [50, 1000])
def test_a_large_batch_is_refused_far_from_the_end_of_a_chunk(block: int) -> None:
    limits = Limits(chunk_bytes=100_000, max_batch_bytes=5_000, counted_bytes=100)
    content = b"1\n" * 9 + b"x" * 40 * 1000 + b"\n"
    lines = b"x" * 45 + b"\n"
    assert planned(lines * 400, per_batch=100, block=block, limits=limits).records == 400
    with pytest.raises(InvalidFileError, match="may have more than 5,000 bytes"):
        planned(lines * 400, per_batch=200, block=block, limits=limits)
    with pytest.raises(InvalidFileError, match="may have more than 5,000 bytes"):
        planned(content, per_batch=100, block=block, limits=limits)


@pytest.mark.parametrize(("line", "becomes"), [(b"\x01", 6), (b"\xff", 3), (b"a\tb", 4), (b"'\"'", 4), (b"xy", 2)])
@pytest.mark.parametrize("block", [1, 1000])
def test_a_batch_weighs_what_it_becomes(line: bytes, becomes: int, block: int) -> None:
    content = (line * 20 + b"\n") * 10
    most = 10 * 20 * becomes
    limits = [Limits(chunk_bytes=10, max_batch_bytes=size) for size in (most, most - 1)]
    assert planned(content, per_batch=10, block=block, limits=limits[0]).records == 10
    with pytest.raises(InvalidFileError, match="as JSON"):
        planned(content, per_batch=10, block=block, limits=limits[1])


def test_bytes_of_two_batches_are_not_added_up() -> None:
    line = b"x" * 30 + b"\n"
    # Looked at line by line: up to the fifth, where a chunk ends, and from the seventh on, where the next one may.
    blocks = [line * 5, line, line * 2]
    limits = Limits(chunk_bytes=93, max_batch_bytes=70)
    assert planned(blocks, size=8 * len(line), per_batch=2, limits=limits).records == 8


def test_blank_lines_make_no_batch_too_large() -> None:
    limits = Limits(chunk_bytes=10, max_batch_bytes=100)
    content = b"a\n" + b" " * 99 + b"\n" + b"\n" * 1000 + b"b\n" + b"\n" * 1000
    assert planned(content, limits=limits).chunks == (Chunk(0, 0, len(content), 1, 2, 0, 1),)


def test_memory_does_not_grow_with_the_file() -> None:
    line = b'{"from":"+4912345678","to":"+4987654321"}\n'
    block = line * 2_000

    def blocks(count: int) -> Iterator[bytes]:
        return (block for _ in range(count))

    def peak(count: int) -> int:
        tracemalloc.start()
        planned(blocks(count), size=len(block) * count, limits=Limits(chunk_bytes=len(block) * count // 5))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(100) < 1.2 * peak(10) < 5_000_000
