import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from include.call_details.keys import failed_key, idempotency_key, processed_key, processing_key, receipt_key
from include.call_details.ledger import LEASE_SECONDS
from include.call_details.models import Done, FileOutcome, FileVersion
from include.errors import (
    AwsUnavailableError,
    ClaimLostError,
    FileChangedError,
    InvalidFileError,
    StorageUnavailableError,
)
from tests.worlds.call_details_run import ENDED, RUN, RunWorld
from tests.worlds.dynamodb import table_error
from tests.worlds.s3 import raising, s3_error

BODY = b"1\n2\n3\n"


@pytest.fixture
def world() -> RunWorld:
    return RunWorld()


@pytest.fixture
def file(world: RunWorld) -> FileVersion:
    return world.drop(BODY)


def test_file_that_was_posted_is_filed_under_its_day(world: RunWorld, file: FileVersion) -> None:
    world.post(*world.plan(file))
    kept = world.closing(file).planned()
    assert kept.outcome is FileOutcome.PROCESSED
    assert kept.document["stored_as"] == processed_key(file, ENDED.date())
    assert world.s3.present("processing/") + world.s3.present("processed/") == [kept.document["stored_as"]]
    assert json.loads(world.s3.body(receipt_key(file))) == kept.document
    assert (kept.document["records_read"], kept.document["records_accepted"]) == (3, 3)
    assert kept.document["duration_seconds"] == 120
    assert world.claims.claim(file, "run-2") == Done(receipt_key(file), RUN)


def test_dead_letters_are_accounted_for(world: RunWorld, file: FileVersion) -> None:
    world.api.answers[idempotency_key(file, 0)] = [httpx.Response(400)]
    world.post(*world.plan(file))
    kept = world.closing(file).planned()
    assert kept.outcome is FileOutcome.PROCESSED_WITH_DEAD_LETTERS
    assert (kept.document["records_accepted"], kept.document["records_dead_lettered"]) == (1, 2)


def test_file_without_records_is_filed_too(world: RunWorld) -> None:
    file = world.drop(b"\n \n")
    world.plan(file)
    kept = world.closing(file).planned()
    assert (kept.outcome, kept.document["records_read"], kept.document["bytes"]) == (FileOutcome.PROCESSED, 0, 3)
    assert world.s3.present("processing/") == []


def test_file_that_does_not_add_up_stays_for_the_next_attempt(world: RunWorld, file: FileVersion) -> None:
    claim, plan = world.plan(file)
    kept = world.closing(file).planned()
    assert kept.outcome is FileOutcome.INCOMPLETE
    assert "0 of 3 records" in kept.document["problems"][0]
    assert kept.document["stored_as"] == processing_key(file)
    assert json.loads(world.s3.body(kept.key))["outcome"] == "incomplete"
    world.post(claim, plan)
    assert world.closing(file).planned().outcome is FileOutcome.PROCESSED


def test_receipt_of_a_file_that_is_gone_names_no_key(world: RunWorld, file: FileVersion) -> None:
    world.plan(file)
    world.s3.delete(processing_key(file))
    kept = world.closing(file).planned()
    assert (kept.outcome, kept.document["stored_as"]) == (FileOutcome.INCOMPLETE, None)
    assert world.claims.unfinished() == [], "nobody can finish it, so it is not under way"


@pytest.mark.parametrize("broken", ["PutObject", "CopyObject", "DeleteObject", "put_item"])
def test_run_that_dies_while_it_closes_is_closed_by_its_retry(broken: str, world: RunWorld, file: FileVersion) -> None:
    world.post(*world.plan(file))
    if broken == "put_item":
        # The first write renews the claim, the second completes it.
        writes = iter([None, table_error("ThrottlingException")])

        def fail_second() -> None:
            if error := next(writes, None):
                raise error

        world.table.before["put_item"] = fail_second
    else:

        def fail(request: dict[str, Any]) -> None:
            del world.s3.before[broken]
            raise s3_error("SlowDown", broken)

        world.s3.before[broken] = fail
    with pytest.raises(Exception, match=r"SlowDown|Throttling"):
        world.closing(file).planned()
    kept = world.closing(file, now=ENDED + timedelta(days=1)).planned()
    assert kept.outcome is FileOutcome.PROCESSED
    assert world.s3.present("processing/") == []
    assert world.s3.present("processed/") == [kept.document["stored_as"]], "filed once, whatever the day"
    assert isinstance(world.claims.claim(file, "run-2"), Done)


def test_object_put_in_the_files_place_while_it_was_ingested_is_not_filed_as_ingested(world: RunWorld) -> None:
    file = world.drop(BODY)
    world.post(*world.plan(file))
    world.s3.drop(processing_key(file), b"something else\n")
    kept = world.closing(file).planned()
    assert kept.outcome is FileOutcome.PROCESSED
    assert world.s3.body(str(kept.document["stored_as"])) == BODY
    assert kept.document["not_ingested"] == processing_key(file)
    assert world.s3.body(processing_key(file)) == b"something else\n"


def test_run_that_dies_after_it_closed_gets_its_receipt_again(world: RunWorld, file: FileVersion) -> None:
    world.post(*world.plan(file))
    kept = world.closing(file).planned()
    assert world.closing(file, now=ENDED + timedelta(days=1)).planned() == kept


def test_run_that_was_taken_over_writes_no_receipt(world: RunWorld, file: FileVersion) -> None:
    world.post(*world.plan(file))
    world.time.now += LEASE_SECONDS + 1
    world.claim(file, "run-2")
    for close in (world.closing(file).planned, lambda: world.closing(file).unreadable("bad")):
        with pytest.raises(ClaimLostError, match="run run-2 has taken over"):
            close()
    assert world.closing(file).not_planned("bad") is None
    assert world.s3.present("receipts/") == []
    world.closing(file, "run-2").planned()
    with pytest.raises(ClaimLostError, match="run run-2 has taken over"):
        world.closing(file).planned()


def test_file_deleted_at_the_very_end_has_a_receipt_all_the_same(world: RunWorld, file: FileVersion) -> None:
    world.post(*world.plan(file))
    world.s3.delete(processing_key(file))
    kept = world.closing(file).planned()
    assert (kept.outcome, kept.document["stored_as"]) == (FileOutcome.PROCESSED, None)


def test_file_that_is_posted_again_stays_where_it_was_filed(world: RunWorld, file: FileVersion) -> None:
    world.post(*world.plan(file))
    first = world.closing(file).planned()
    world.post(*world.plan(file, "run-2", force=True))
    second = world.closing(file, "run-2", now=ENDED + timedelta(days=7)).planned()
    assert second.document["stored_as"] == first.document["stored_as"]
    assert world.s3.present("processed/") == [first.document["stored_as"]]
    assert set(world.api.keys.values()) == {2}, "under the same idempotency keys"


def test_file_that_cannot_be_read_goes_to_failed(world: RunWorld) -> None:
    file = world.drop(b"\x1f\x8b damaged", "incoming/x.gz")
    with pytest.raises(InvalidFileError):
        world.plan(file)
    kept = world.closing(file).unreadable("the file is not gzip")
    assert (kept.outcome, kept.document["error"]) == (FileOutcome.UNREADABLE, "the file is not gzip")
    assert world.s3.present("failed/") == [kept.document["stored_as"]] == [failed_key(file)]
    assert world.closing(file).unreadable("the file is not gzip") == kept, "a retry does it again"
    assert world.claims.unfinished() == []


@pytest.mark.parametrize("body", [b"\x1f\x8b damaged", BODY])
def test_retry_of_closing_leaves_what_was_dropped_again_to_the_watcher(body: bytes, world: RunWorld) -> None:
    file = world.drop(body)
    if body == BODY:
        world.post(*world.plan(file))
    else:
        with pytest.raises(InvalidFileError):
            world.plan(file)

    def close() -> object:
        return world.closing(file).planned() if body == BODY else world.closing(file).unreadable("not gzip")

    def die_once_it_is_moved() -> None:
        if not world.s3.present("processing/"):
            raise table_error("ThrottlingException")

    world.table.before["put_item"] = die_once_it_is_moved
    with pytest.raises(AwsUnavailableError):
        close()
    world.table.before.clear()
    newer, again = world.drop(b"newer\n"), world.drop(body)
    close()
    assert [found.etag.strip('"') for found in world.store.versions(file.key)] == [newer.etag, again.etag]


def test_file_that_could_not_be_read_is_tried_again_without_force(world: RunWorld) -> None:
    file = world.drop(b"\x1f\x8b damaged", "incoming/x.gz")
    world.claim(file)
    world.closing(file).unreadable("not gzip")
    assert world.claim(file, "run-2").round == 1
    with pytest.raises(InvalidFileError):
        world.plan(file, "run-2")


def test_receipt_of_a_file_that_could_not_be_read_gives_way_to_that_of_the_next_run(world: RunWorld) -> None:
    file = world.drop(b"\x1f\x8b damaged", "incoming/x.gz")
    world.claim(file)
    world.closing(file).unreadable("not gzip")
    world.claim(file, "run-2")
    kept = world.closing(file, "run-2").not_planned("S3 was down")
    assert kept is not None
    assert (kept.outcome, kept.document["run_id"]) == (FileOutcome.NOT_PLANNED, "run-2")


def test_forced_round_that_cannot_read_its_file_leaves_all_as_the_first_left_it(world: RunWorld) -> None:
    file = world.drop(BODY)
    world.post(*world.plan(file))
    before = world.closing(file).planned()
    world.claim(file, "run-2", force=True)
    for _ in range(2):
        assert world.closing(file, "run-2").unreadable("a batch is too large") is None
    assert world.s3.present("processed/") == [before.document["stored_as"]]
    assert world.s3.present("failed/") == []
    assert json.loads(world.s3.body(before.key)) == before.document
    assert isinstance(world.claims.claim(file, "run-3"), Done)


def test_run_that_never_planned_leaves_word_and_the_file(world: RunWorld, file: FileVersion) -> None:
    world.claim(file)
    kept = world.closing(file).not_planned("S3 was down")
    assert (kept.outcome, kept.document["stored_as"]) == (FileOutcome.NOT_PLANNED, file.key)
    world.post(*world.plan(file))
    assert world.closing(file).planned().outcome is FileOutcome.PROCESSED


def test_run_that_could_not_plan_again_accounts_for_what_was_posted(world: RunWorld, file: FileVersion) -> None:
    world.post(*world.plan(file))
    kept = world.closing(file).not_planned("S3 was down")
    assert (kept.outcome, kept.document["error"]) == (FileOutcome.INCOMPLETE, "S3 was down")
    assert (kept.document["records_read"], kept.document["records_accepted"]) == (3, 3)


def test_forced_run_that_could_not_plan_keeps_the_receipt_of_the_first_round(world: RunWorld) -> None:
    file = world.drop(BODY)
    world.post(*world.plan(file))
    before = world.closing(file).planned()
    world.claim(file, "run-2", force=True)
    assert world.closing(file, "run-2").not_planned("S3 was down") is None
    assert json.loads(world.s3.body(before.key)) == before.document
    assert world.claim(file, "run-3").round == 2, "without waiting for the lease"


def test_run_that_failed_leaves_its_file_to_the_next_at_once(world: RunWorld, file: FileVersion) -> None:
    world.claim(file)
    world.closing(file).not_planned("S3 was down")
    world.plan(file, "run-2")
    assert world.closing(file, "run-2").planned().outcome is FileOutcome.INCOMPLETE
    world.post(*world.plan(file, "run-3"))
    assert world.closing(file, "run-3").planned().outcome is FileOutcome.PROCESSED


def test_file_that_is_delivered_again_while_its_run_fails_is_not_forgotten(world: RunWorld, file: FileVersion) -> None:
    world.plan(file)
    world.claims.claim(file, RUN, begun=False)
    assert world.closing(file).planned().outcome is FileOutcome.INCOMPLETE
    assert [each.begun for each in world.claims.unfinished()] == [False]


def test_missing_plan_is_reported(world: RunWorld, file: FileVersion) -> None:
    world.claim(file)
    with pytest.raises(FileChangedError, match="clear the task 'plan'"):
        world.closing(file).planned()


def test_receipt_that_cannot_be_kept_completes_nothing(world: RunWorld, file: FileVersion) -> None:
    world.post(*world.plan(file))
    world.s3.before["PutObject"] = raising(s3_error("SlowDown"))
    with pytest.raises(StorageUnavailableError):
        world.closing(file).planned()
    assert world.s3.present("processing/") == [processing_key(file)]
    assert world.claims.current(file, RUN)
