from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.archive.models import Outcome, OutcomeFile, Progress, Result, read_outcomes
from include.errors import StorageUnavailableError
from tests.worlds.s3 import FakeS3, s3_error

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY = "runs/trigger/20260308/run/outcomes/000000.json"
ARCHIVED = Outcome(7, Result.ARCHIVED, "trigger/7/7_trigger_20260308.json", "ab" * 32, 12, "v1")
FAILED = Outcome(8, Result.FAILED, error="DEX API answered 429", retryable=True, retry_after=2.5)

OPTIONAL_TEXT = st.none() | st.text()
OUTCOMES = st.builds(
    Outcome,
    st.integers(),
    st.sampled_from(Result),
    OPTIONAL_TEXT,
    OPTIONAL_TEXT,
    st.none() | st.integers(0),
    OPTIONAL_TEXT,
    OPTIONAL_TEXT,
    st.booleans(),
    st.none() | st.floats(0, allow_nan=False),
)


def file_of(s3: FakeS3, clear_number: int = 0) -> OutcomeFile:
    return OutcomeFile(cast("S3Client", s3), s3.bucket, KEY, clear_number=clear_number)


def read(s3: FakeS3, *, clear_number: int = 0, planned_at: int = 0, succeeded: bool = False) -> list[Outcome]:
    """What the summary finds of slice 3 of a run."""
    # Slice 4 is another one: that its task succeeded says nothing of slice 3.
    progress = Progress(clear_number, planned_at, frozenset({3, 4} if succeeded else {4}))
    return read_outcomes(cast("S3Client", s3), s3.bucket, KEY, index=3, progress=progress)


@given(st.lists(OUTCOMES, unique_by=lambda outcome: outcome.client_id, max_size=5))
def test_outcomes_are_read_as_they_were_saved(outcomes: list[Outcome]) -> None:
    s3 = FakeS3()
    file_of(s3).save(outcomes)
    assert list(file_of(s3).resume().values()) == outcomes
    assert read(s3) == outcomes


def test_nothing_saved_is_nothing_to_resume() -> None:
    assert file_of(FakeS3()).resume() == {}
    assert read(FakeS3()) == []


def test_save_replaces_what_was_there() -> None:
    s3 = FakeS3()
    file_of(s3).save([FAILED])
    file_of(s3).save([ARCHIVED])
    assert read(s3) == [ARCHIVED]


def test_cleared_task_does_its_work_again() -> None:
    s3 = FakeS3()
    file_of(s3, clear_number=1).save([ARCHIVED])
    assert file_of(s3, clear_number=1).resume() == {7: ARCHIVED}
    assert file_of(s3, clear_number=2).resume() == {}


@pytest.mark.parametrize("succeeded", [True, False])
def test_outcomes_of_this_life_of_the_run_are_taken(succeeded: bool) -> None:
    s3 = FakeS3()
    file_of(s3, clear_number=1).save([ARCHIVED])
    for planned_at in (0, 1):
        assert read(s3, clear_number=1, planned_at=planned_at, succeeded=succeeded) == [ARCHIVED]


@pytest.mark.parametrize("outcomes", [[ARCHIVED], [ARCHIVED, FAILED]], ids=["good", "failed"])
@pytest.mark.parametrize("succeeded", [True, False])
def test_outcomes_older_than_the_plan_are_never_taken(outcomes: list[Outcome], succeeded: bool) -> None:
    s3 = FakeS3()
    file_of(s3, clear_number=1).save(outcomes)
    assert read(s3, clear_number=2, planned_at=2, succeeded=succeeded) == []


def test_task_that_other_tasks_repair_left_alone_keeps_its_outcomes() -> None:
    s3 = FakeS3()
    file_of(s3).save([ARCHIVED])
    assert read(s3, clear_number=1, succeeded=True) == [ARCHIVED]


def test_cleared_task_that_died_before_its_first_save_is_not_counted_by_its_old_outcomes() -> None:
    s3 = FakeS3()
    file_of(s3).save([ARCHIVED])
    assert read(s3, clear_number=1, succeeded=False) == []


def test_failed_task_that_was_not_cleared_keeps_naming_its_failure() -> None:
    s3 = FakeS3()
    file_of(s3).save([ARCHIVED, FAILED])
    assert read(s3, clear_number=1, succeeded=False) == [ARCHIVED, FAILED]


def test_storage_that_fails_is_not_an_empty_file() -> None:
    s3 = FakeS3()
    file_of(s3).save([ARCHIVED])

    def fail(request: object) -> None:
        raise s3_error("InternalError", "GetObject")

    s3.before["GetObject"] = fail
    with pytest.raises(StorageUnavailableError):
        file_of(s3).resume()
    with pytest.raises(StorageUnavailableError):
        read(s3)
