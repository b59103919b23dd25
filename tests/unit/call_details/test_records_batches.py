import gzip
import json
from datetime import UTC, datetime, timedelta, timezone
from itertools import batched
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.call_details.keys import idempotency_key
from include.call_details.models import FileVersion, Plan, Terms
from include.call_details.planner import Limits, make_plan
from include.call_details.records import Batch, read_batches, timestamp
from include.call_details.storage import StoredFile
from include.errors import InvalidFileError, StorageUnavailableError
from tests.worlds.call_details_reference import FILES, in_blocks, reference_records

FILE = FileVersion("bucket", "incoming/calls.txt", "etag")
GZIP = FileVersion("bucket", "incoming/calls.txt.gz", "etag")
MOMENT = "2026-03-08T10:00:00.000Z"


def planned(content: bytes, *, per_batch: int, block: int = 1000, file: FileVersion = FILE, **limits: int) -> Plan:
    return make_plan(
        file,
        StoredFile("processing/calls.txt", "etag", len(content)),
        Terms(per_batch, MOMENT),
        in_blocks(content, block),
        limits=Limits(**limits),
    )


def read(content: bytes, plan: Plan, block: int = 1000) -> list[Batch]:
    return [
        batch
        for chunk in plan.chunks
        for batch in read_batches(in_blocks(content[chunk.start : chunk.stop], block), plan, chunk)
    ]


@given(FILES, st.integers(1, 4), st.integers(1, 300), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40))
def test_batches_are_those_of_the_contract_however_the_work_is_cut(
    content: bytes, per_batch: int, chunk_bytes: int, chunk_batches: int, plan_block: int, read_block: int
) -> None:
    plan = planned(content, per_batch=per_batch, block=plan_block, chunk_bytes=chunk_bytes, chunk_batches=chunk_batches)
    made = read(content, plan, read_block)

    records = reference_records(content)
    assert plan.records == len(records)
    expected = list(batched(records, per_batch))
    assert len(made) == len(expected) == plan.batches
    for number, (batch, group) in enumerate(zip(made, expected, strict=True)):
        assert (batch.number, batch.count) == (number, len(group))
        assert batch.first_record == number * per_batch + 1
        assert batch.idempotency_key == idempotency_key(FILE, number)
        whole = f'{{"records":[{",".join(group)}],"timestamp":"{MOMENT}","batchSize":{len(group)}}}'
        assert same_json(batch.body, whole)


def same_json(body: bytes, other: str) -> bool:
    """Equal down to the digits of numbers and the order of names, but for how text is escaped."""
    return exact(body.decode()) == exact(other)


def exact(text: str) -> Any:
    return json.loads(text, parse_int=lambda digits: f"int {digits}", parse_float=str, object_pairs_hook=tuple)


@given(FILES, st.integers(1, 4), st.integers(1, 300), st.integers(1, 300))
def test_the_same_file_has_the_same_bodies_whatever_the_chunks(
    content: bytes, per_batch: int, chunk_bytes: int, other_chunk_bytes: int
) -> None:
    one = read(content, planned(content, per_batch=per_batch, chunk_bytes=chunk_bytes), block=3)
    other = read(content, planned(content, per_batch=per_batch, chunk_bytes=other_chunk_bytes), block=100)
    assert one == other


@given(FILES, st.integers(1, 4), st.integers(1, 40))
def test_a_gzip_file_has_the_batches_of_its_text(content: bytes, per_batch: int, block: int) -> None:
    packed = gzip.compress(content)
    plan = planned(packed, per_batch=per_batch, file=GZIP, chunk_bytes=1, block=block)
    bodies = [batch.body for batch in read(content, planned(content, per_batch=per_batch))]
    assert [batch.body for batch in read(packed, plan, block)] == bodies
    assert [(chunk.start, chunk.stop) for chunk in plan.chunks] == [(0, len(packed))] * bool(bodies)


def test_body_is_put_together_from_the_lines_as_they_are() -> None:
    content = b' {"a": 1.10, "a":0e5}\r\n\n[1 ,2]\nNaN\n"\\ud800"\n12345678901234567890.0\n\xffx\n'
    (batch,) = read(content, planned(content, per_batch=500))
    assert batch.body == (
        b'{"records":[{"a": 1.10, "a":0e5},[1 ,2],{"data":"NaN","lineNumber":3},"\\ud800",12345678901234567890.0,'
        b'{"data":"\xef\xbf\xbdx","lineNumber":6}],"timestamp":"2026-03-08T10:00:00.000Z","batchSize":6}'
    )
    assert "NaN" not in repr(batch), "records stay out of logs"


def test_lines_of_a_large_block_are_the_same_wherever_it_is_cut_inside() -> None:
    megabyte = 1024 * 1024
    long = "\u20ac" * (megabyte // 3)
    content = "".join(
        f"{number} \u00e4\u2028\U0001f600{long if number % 7_000 == 3 else ''}\r\n\r\n" for number in range(20_000)
    )
    made = read(content.encode(), planned(content.encode(), per_batch=500, block=megabyte), block=4 * megabyte)
    found = [record["data"] for batch in made for record in json.loads(batch.body)["records"]]
    assert found == [line.strip() for line in content.split("\n") if line.strip()]


def test_numbers_of_lines_go_on_through_the_chunks() -> None:
    content = b"".join(b"line %d\n\n" % number for number in range(1, 26))
    plan = planned(content, per_batch=2, chunk_bytes=40)
    assert len(plan.chunks) > 3
    found = [record for batch in read(content, plan) for record in json.loads(batch.body)["records"]]
    assert found == [{"data": f"line {number}", "lineNumber": number} for number in range(1, 26)]


@pytest.mark.parametrize("count", [1, 499, 500, 501, 1000, 1001])
def test_each_batch_has_500_records_and_the_last_one_what_is_left(count: int) -> None:
    content = b"1\n" * count
    made = read(content, planned(content, per_batch=500))
    assert [batch.count for batch in made] == [500] * (count // 500) + [count % 500] * (count % 500 > 0)
    assert [json.loads(batch.body)["batchSize"] for batch in made] == [batch.count for batch in made]


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n\xc2\xa0"], ids=repr)
def test_a_file_without_records_has_no_work(content: bytes) -> None:
    plan = planned(content, per_batch=500)
    assert (plan.records, plan.batches, plan.chunks) == (0, 0, ())


def test_a_chunk_that_arrives_in_part_posts_no_part_of_a_line() -> None:
    content = b"1234\n" * 7
    plan = planned(content, per_batch=2)
    (chunk,) = plan.chunks
    seen: list[Batch] = []
    with pytest.raises(StorageUnavailableError):
        seen.extend(read_batches([content[:-3]], plan, chunk))
    assert [batch.number for batch in seen] == [0, 1, 2]


def test_another_file_than_the_planned_is_noticed() -> None:
    content = b"1234\n" * 7
    plan = planned(content, per_batch=2)
    with pytest.raises(InvalidFileError, match="chunk 0 has 8 records instead of the 7 planned"):
        read(b"1234\n" * 6 + b"1\n34\n", plan)


def test_one_batch_is_held_at_a_time() -> None:
    content = b"1\n" * 100
    plan = planned(content, per_batch=10)
    asked = 0

    def blocks() -> Any:
        nonlocal asked
        for block in in_blocks(content, 2):
            asked += 1
            yield block

    batches = read_batches(blocks(), plan, plan.chunks[0])
    next(batches)
    assert asked <= 11


def test_timestamps_are_in_utc_with_milliseconds() -> None:
    assert timestamp(datetime(2026, 3, 8, 10, 0, 0, 999_999, tzinfo=UTC)) == "2026-03-08T10:00:00.999Z"
    assert timestamp(datetime(2026, 3, 8, 1, tzinfo=timezone(timedelta(hours=2)))) == "2026-03-07T23:00:00.000Z"


def test_batches_that_nobody_needs_are_passed_over_and_change_no_other() -> None:
    content = b"".join(b"line %d\n" % number for number in range(25))
    plan = planned(content, per_batch=4)
    (chunk,) = plan.chunks
    whole = list(read_batches([content], plan, chunk))
    made = list(read_batches([content], plan, chunk, settled=lambda number: number in (0, 2, 5)))
    assert made == [batch for batch in whole if batch.number not in (0, 2, 5)]
