from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.archive.outcomes import Outcome, OutcomeFile, Result, read_outcomes
from include.errors import StorageUnavailableError
from tests.fakes.s3 import FakeS3, s3_error

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


def read(s3: FakeS3, since_clear: int = 0) -> list[Outcome]:
    return read_outcomes(cast("S3Client", s3), s3.bucket, KEY, since_clear=since_clear)


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


def test_summary_leaves_out_what_is_older_than_the_plan() -> None:
    s3 = FakeS3()
    file_of(s3, clear_number=1).save([ARCHIVED])
    assert read(s3, since_clear=0) == [ARCHIVED], "the task alone was cleared after the plan"
    assert read(s3, since_clear=1) == [ARCHIVED]
    assert read(s3, since_clear=2) == []


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
