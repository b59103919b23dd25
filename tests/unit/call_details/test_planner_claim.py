import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from include.call_details.keys import failed_key, plan_key, processed_key, processing_key, receipt_key
from include.call_details.models import Claim, Done, FileVersion, Plan
from include.call_details.planner import Planner, find, read_plan, resolve
from include.errors import (
    ClaimLostError,
    FileChangedError,
    FileHeldError,
    InvalidFileError,
    InvalidInputError,
    RunRefusedError,
    StorageUnavailableError,
)
from tests.worlds.call_details_run import KEY, RunWorld
from tests.worlds.s3 import raising, s3_error

BODY = b"one\ntwo\n\nthree\n"
DAY = datetime(2026, 3, 8, 12, tzinfo=UTC)


class Run(RunWorld):
    """What the first task of a run works with; the plans' clock moves on with every look at it."""

    def __init__(self) -> None:
        super().__init__()
        self.planning = Planner(self.store, self.claims, records_per_batch=2, now=self._now)
        self._second = 0

    def drop(self, body: bytes = BODY, key: str = KEY) -> FileVersion:
        return super().drop(body, key)

    def claim(self, file: FileVersion, owner: str = "run-1", *, force: bool = False) -> Claim:
        claim = self.planning.claim(file, owner, force=force)
        assert isinstance(claim, Claim)
        return claim

    def move(self, file: FileVersion, target: str) -> None:
        found = find(self.store, file)
        assert found is not None
        self.store.move(found, target)

    def _now(self) -> datetime:
        self._second += 1
        return DAY.replace(second=self._second)


@pytest.fixture
def run() -> Run:
    return Run()


@pytest.fixture
def file(run: Run) -> FileVersion:
    return run.drop()


def test_key_means_the_file_that_lies_there(run: Run, file: FileVersion) -> None:
    assert resolve(run.store, KEY, None) == file
    assert resolve(run.store, KEY, f'"{file.etag}"') == file


def test_key_of_a_file_that_was_moved_means_its_newest_version(run: Run) -> None:
    run.drop(b"old")
    file = run.drop()
    run.move(file, processing_key(file))
    assert resolve(run.store, KEY, None) == file


@pytest.mark.parametrize("place", [processing_key, failed_key, lambda file: processed_key(file, DAY.date())])
def test_place_that_a_file_was_moved_to_means_that_version(place: Any, run: Run, file: FileVersion) -> None:
    run.drop(b"newer")
    for etag in (None, file.etag, f'"{file.etag}"'):
        assert resolve(run.store, place(file), etag) == file
    with pytest.raises(RunRefusedError, match="params key and etag: "):
        resolve(run.store, place(file), "other")


@pytest.mark.parametrize(
    "key", ["incoming/", "incoming/folder/", "other.txt", "", "incoming/absent.txt", "/incoming/a"]
)
def test_key_that_means_no_file_is_named(key: str, run: Run) -> None:
    with pytest.raises(RunRefusedError, match="param key: "):
        resolve(run.store, key, None)


def test_version_is_found_wherever_it_was_moved_to(run: Run, file: FileVersion) -> None:
    for target in (processing_key(file), failed_key(file)):
        run.move(file, target)
        found = find(run.store, file)
        assert found.key == target
    target = processed_key(file, DAY.date())
    run.store.write_json(receipt_key(file), {"stored_as": target})
    run.move(file, target)
    assert find(run.store, file) is not None
    run.s3.delete(target)
    assert find(run.store, file) is None


def test_version_that_was_overwritten_is_found_and_no_other(run: Run) -> None:
    old = run.drop(b"old")
    new = run.drop(b"newer")
    for file, size in ((old, 3), (new, 5)):
        found = find(run.store, file)
        assert (found.key, found.size) == (file.key, size)
    assert run.planning.plan(run.claim(old)).size == 3
    assert run.s3.body(new.key) == b"newer"
    run.s3.delete(new.key)
    assert find(run.store, new) is None


def test_object_put_in_the_place_of_a_claimed_file_is_never_planned_as_that_file(run: Run, file: FileVersion) -> None:
    plan = run.planning.plan(run.claim(file))
    run.s3.drop(processing_key(file), b"something else\n" * 50)
    assert run.planning.plan(run.claim(file)) == plan


def test_claimed_file_is_planned_where_it_was_moved_to(run: Run, file: FileVersion) -> None:
    plan = run.planning.plan(run.claim(file))
    assert run.s3.present("incoming/") == []
    assert (plan.file, plan.key, plan.records, plan.batches) == (file, processing_key(file), 3, 2)
    assert [(chunk.start, chunk.stop) for chunk in plan.chunks] == [(0, len(BODY))]
    assert read_plan(run.store, run.claims.current(file, "run-1")) == plan


def test_plan_stays_the_same_for_retries_and_later_owners(run: Run, file: FileVersion) -> None:
    plan = run.planning.plan(run.claim(file))
    assert run.planning.plan(run.claim(file)) == plan
    run.time.now += 901
    assert run.planning.plan(run.claim(file, "run-2")) == plan


def test_plan_follows_a_file_that_was_moved_by_hand(run: Run, file: FileVersion) -> None:
    plan = run.planning.plan(run.claim(file))
    run.move(file, failed_key(file))
    again = run.planning.plan(run.claim(file))
    assert again == replace(plan, key=failed_key(file)), "the same batches at the same time"
    assert read_plan(run.store, run.claims.current(file, "run-1")) == again


def test_plan_that_has_expired_is_made_anew(run: Run, file: FileVersion) -> None:
    claim = run.claim(file)
    plan = run.planning.plan(claim)
    run.s3.delete(plan_key(file, 1))
    with pytest.raises(FileChangedError, match="clear the task 'plan'"):
        read_plan(run.store, run.claims.current(file, "run-1"))
    assert run.planning.plan(run.claim(file)) == plan


def test_version_that_is_done_is_claimed_again_only_by_force(run: Run, file: FileVersion) -> None:
    claim = run.claim(file)
    first = run.planning.plan(claim)
    run.claims.complete(claim, "receipts/1.json")
    done = run.planning.claim(file, "run-2", force=False)
    assert done == Done("receipts/1.json", "run-1")
    forced = run.claim(file, "run-2", force=True)
    second = run.planning.plan(forced)
    assert (forced.round, second.chunks) == (2, first.chunks)
    assert second.timestamp == first.timestamp, "the same bodies under the same idempotency keys"
    assert run.s3.present("plans/") == [plan_key(file, 1), plan_key(file, 2)]


def test_setting_counts_until_there_is_a_plan_and_not_after(run: Run, file: FileVersion) -> None:
    refused = Planner(run.store, run.claims, records_per_batch=501)
    with pytest.raises(InvalidInputError, match="max_records_per_batch"):
        refused.plan(run.claim(file))
    assert run.planning.plan(run.claim(file)).records_per_batch == 2
    run.s3.delete(plan_key(file, 1))
    later = Planner(run.store, run.claims, records_per_batch=1)
    assert later.plan(run.claim(file)).records_per_batch == 2


def test_plan_of_a_faster_attempt_is_made_again_by_its_terms(run: Run, file: FileVersion) -> None:
    claim = run.claim(file)
    faster: list[Plan] = []

    def overtake(request: dict[str, Any]) -> None:
        run.s3.before.clear()
        faster.append(Planner(run.store, run.claims, records_per_batch=1, now=run._now).plan(claim))

    run.s3.before["GetObject"] = overtake
    assert run.planning.plan(claim) == faster[0]
    assert read_plan(run.store, run.claims.current(file, "run-1")) == faster[0]


def test_file_in_other_hands_is_waited_for(run: Run, file: FileVersion) -> None:
    run.claim(file)
    with pytest.raises(FileHeldError, match="run run-1 works on incoming/"):
        run.claim(file, "run-2")


def test_owner_that_was_taken_over_cannot_note_its_plan(run: Run, file: FileVersion) -> None:
    claim = run.claim(file)
    run.time.now += 901
    run.claim(file, "run-2")
    with pytest.raises(ClaimLostError):
        run.planning.plan(claim)


@pytest.mark.parametrize("moved", [False, True])
def test_deleted_file_is_reported_with_where_and_when(moved: bool, run: Run, file: FileVersion) -> None:
    claim, place = run.claim(file), KEY
    if moved:
        place = processing_key(file)
        run.move(file, place)
    run.s3.delete(place)
    (last,) = [each for each in run.s3.list_versions(place) if each["IsLatest"]]
    expected = re.escape(f"was deleted at {last['LastModified']:%Y-%m-%d %H:%M:%S} UTC, when it lay at {place}: ")
    with pytest.raises(FileChangedError, match=expected):
        run.planning.plan(claim)


def test_file_of_which_nothing_is_known_is_reported(run: Run, file: FileVersion) -> None:
    claim = run.claim(file)
    run.s3.objects.clear()
    with pytest.raises(FileChangedError, match="is nowhere in bucket ingest"):
        run.planning.plan(claim)


@pytest.mark.parametrize("name", ["x.txt.gz", "X.GZ"])
def test_file_that_cannot_be_read_leaves_no_plan(name: str, run: Run) -> None:
    file = run.drop(b"\x1f\x8b damaged", f"incoming/{name}")
    with pytest.raises(InvalidFileError):
        run.planning.plan(run.claim(file))
    assert run.s3.present("plans/") == []


def test_s3_that_fails_in_the_middle_is_a_matter_of_a_retry(run: Run, file: FileVersion) -> None:
    claim = run.claim(file)
    run.s3.before["GetObject"] = raising(s3_error("SlowDown", "GetObject"))
    with pytest.raises(StorageUnavailableError):
        run.planning.plan(claim)
    del run.s3.before["GetObject"]
    assert run.planning.plan(claim).records == 3


def test_empty_file_has_a_plan_without_chunks(run: Run) -> None:
    plan = run.planning.plan(run.claim(run.drop(b"")))
    assert (plan.records, plan.chunks) == (0, ())
    assert Plan.from_document(plan.to_document()) == plan


def test_run_for_the_newest_version_withdraws_no_older_one(run: Run) -> None:
    older, newest = run.drop(b"older"), run.drop(b"newest")
    run.planning.plan(run.claim(newest, "manual__1"))
    assert [found.etag.strip('"') for found in run.store.versions(KEY)] == [older.etag, newest.etag]
    run.s3.delete(KEY)
    alone = run.drop(b"alone")
    run.planning.plan(run.claim(alone, "manual__2"))
    assert run.s3.present("incoming/") == []
