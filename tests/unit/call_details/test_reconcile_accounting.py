import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.call_details.models import ChunkState, FileOutcome, FileVersion, Plan, Receipt, Settled, Terms
from include.call_details.planner import Limits, make_plan
from include.call_details.reconcile import account
from include.call_details.storage import StoredFile
from tests.worlds.call_details_reference import in_blocks

FILE = FileVersion("bucket", "incoming/calls.txt", "etag")
STARTED = datetime(2026, 3, 8, 10, tzinfo=UTC)
CONTENT = b"line\n\xff\n" * 25 + b"\n"


def plan_of(content: bytes = CONTENT) -> Plan:
    return make_plan(
        FILE,
        StoredFile("processing/calls.txt", "etag", len(content)),
        Terms(3, "2026-03-08T10:00:00.000Z"),
        in_blocks(content, 10),
        limits=Limits(chunk_batches=4),
    )


PLAN = plan_of()


def states(*, dead: frozenset[int] = frozenset(), missing: frozenset[int] = frozenset()) -> list[ChunkState]:
    """The ledger after all batches but the missing ones were settled."""
    found = []
    for chunk in PLAN.chunks:
        numbers = range(chunk.first_batch, chunk.first_batch + chunk.batches)
        settled = [
            Settled(number, min(3, PLAN.records - 3 * number), accepted=number not in dead, retries=number % 2)
            for number in numbers
            if number not in missing
        ]
        fresh = ChunkState.fresh(chunk.index, chunk.first_batch, chunk.batches)
        found.append(fresh.settle(settled, logins=1))
    return found


def receipt_of(found: list[ChunkState], plan: Plan = PLAN) -> Receipt:
    return account(Receipt(FILE, "run", STARTED, STARTED + timedelta(seconds=2.5)), plan, found)


def test_a_receipt_says_what_became_of_everything() -> None:
    receipt = receipt_of(states(dead=frozenset({1, 16})))
    document = json.loads(json.dumps(receipt.to_document()))
    ranges = document.pop("ranges")
    assert document == {
        "bucket": "bucket",
        "key": "incoming/calls.txt",
        "etag": "etag",
        "run_id": "run",
        "outcome": "processed with dead letters",
        "error": None,
        "records_read": 50,
        "records_accepted": 45,
        "records_dead_lettered": 5,
        "batches_read": 17,
        "batches_accepted": 15,
        "batches_dead_lettered": 2,
        "bytes": len(CONTENT),
        "text_bytes": len(CONTENT),
        "invalid_bytes": 25,
        "auth_calls": 5,
        "retries": 8,
        "started_at": "2026-03-08T10:00:00+00:00",
        "finished_at": "2026-03-08T10:00:02.500000+00:00",
        "duration_seconds": 2.5,
        "problems": [],
    }
    assert ranges[0] == {
        "start": 0,
        "stop": 42,
        "first_record": 1,
        "records_read": 12,
        "records_accepted": 9,
        "records_dead_lettered": 3,
        "batches_read": 4,
        "batches_accepted": 3,
        "batches_dead_lettered": 1,
    }
    assert [item["start"] for item in ranges[1:]] == [item["stop"] for item in ranges[:-1]]
    assert ranges[-1]["stop"] == len(CONTENT)


BATCHES = st.frozensets(st.integers(0, PLAN.batches - 1))


@given(BATCHES, BATCHES)
def test_it_adds_up_exactly_when_every_batch_is_settled(dead: frozenset[int], missing: frozenset[int]) -> None:
    receipt = receipt_of(states(dead=dead, missing=missing))
    totals = receipt.totals
    left = totals["batches_read"] - totals["batches_accepted"] - totals["batches_dead_lettered"]
    assert left == len(missing)
    assert bool(receipt.problems) == bool(missing)
    if missing:
        assert receipt.outcome is FileOutcome.INCOMPLETE
        assert len(receipt.problems) == len({number // 4 for number in missing})
    else:
        assert totals["records_read"] == totals["records_accepted"] + totals["records_dead_lettered"] == 50
        assert receipt.outcome is (FileOutcome.PROCESSED_WITH_DEAD_LETTERS if dead else FileOutcome.PROCESSED)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"records_accepted": 11}, "bytes 0 to 42, from record 1: 11 of 12 records and 4 of 4 batches"),
        ({"records_accepted": 13}, "bytes 0 to 42, from record 1: 13 of 12 records and 4 of 4 batches"),
        ({"settled_to": 3}, "bytes 0 to 42, from record 1: 12 of 12 records and 3 of 4 batches"),
        ({"dead": (0,)}, "chunk 0: its dead letters hold 3 records, the ledger says 0"),
    ],
)
def test_a_ledger_that_is_wrong_by_one_does_not_add_up(changes: dict[str, Any], says: str) -> None:
    first, *others = states()
    receipt = receipt_of([replace(first, **changes), *others])
    assert receipt.outcome is FileOutcome.INCOMPLETE
    assert says in receipt.problems[0]


def test_a_chunk_that_was_never_opened_is_missed() -> None:
    receipt = receipt_of(states()[1:])
    assert receipt.problems == ("bytes 0 to 42, from record 1: 0 of 12 records and 0 of 4 batches are accounted for",)


def test_a_plan_with_a_hole_does_not_add_up() -> None:
    holed = replace(PLAN, chunks=PLAN.chunks[:1] + PLAN.chunks[2:])
    problems = receipt_of(states(), holed).problems
    assert [problem.partition(",")[0] for problem in problems] == [
        "bytes 42 to 84",
        "the chunks have 50 records in 13 batches and 176 bytes",
        "the ledger knows chunks that were not planned: 1",
    ]


def test_a_plan_that_lost_its_end_does_not_add_up() -> None:
    cut = replace(PLAN, chunks=PLAN.chunks[:-1])
    assert any("the file has 50 in 17" in problem for problem in receipt_of(states()[:-1], cut).problems)


def test_a_plan_that_ends_before_the_file_does_not_add_up() -> None:
    *others, last = PLAN.chunks
    cut = replace(PLAN, chunks=(*others, replace(last, stop=last.stop - 1)))
    (problem,) = receipt_of(states(), cut).problems
    assert f"and {len(CONTENT) - 1} bytes, the file has" in problem


def test_a_file_without_records_is_processed() -> None:
    receipt = receipt_of([], plan_of(b"\n \n"))
    assert receipt.outcome is FileOutcome.PROCESSED
    assert set(receipt.totals.values()) == {0}
    assert receipt.bytes == 3


@pytest.mark.parametrize("outcome", [FileOutcome.UNREADABLE, FileOutcome.NOT_PLANNED])
def test_a_file_of_which_nothing_was_read_has_a_receipt_that_adds_up(outcome: FileOutcome) -> None:
    receipt = Receipt(FILE, "run", STARTED, STARTED, error="the gzip file is cut off", nothing_read=outcome)
    assert receipt.outcome is outcome
    assert set(receipt.totals.values()) == {0}
    assert receipt.to_document()["error"] == "the gzip file is cut off"
    assert receipt.to_document()["outcome"] == outcome.value


def test_a_run_that_did_not_come_as_far_as_its_plan_is_incomplete_whatever_adds_up() -> None:
    receipts = [
        account(Receipt(FILE, "run", STARTED, STARTED, error), PLAN, states()) for error in (None, "S3 was down")
    ]
    assert [receipt.outcome for receipt in receipts] == [FileOutcome.PROCESSED, FileOutcome.INCOMPLETE]
    assert receipts[1].totals["records_accepted"] == PLAN.records
