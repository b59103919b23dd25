from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.archive.models import ClientOutcome, Result
from include.errors import RetryableFailuresError, StorageUnavailableError, WorkFailedError
from include.mapped_work import NO_OUTCOME, MappedWork, OutcomeFile, Slice, raise_for_failures
from tests.worlds.s3 import FakeS3, raising, s3_error

LASTING = 99
KEY = "runs/trigger/20260308/run/outcomes/000000.json"
ARCHIVED = ClientOutcome(7, Result.ARCHIVED, "trigger/7/7_trigger_20260308.json", "ab" * 32, 12, "v1")
FAILED = ClientOutcome(8, Result.FAILED, error="DEX API answered 429", retryable=True, retry_after=2.5)

OPTIONAL_TEXT = st.none() | st.text()
OUTCOMES = st.builds(
    ClientOutcome,
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


def file_of(s3: FakeS3, clear_number: int = 0) -> OutcomeFile[ClientOutcome]:
    return OutcomeFile(ClientOutcome, s3, s3.bucket, KEY, clear_number=clear_number)


def read(s3: FakeS3, *, clear_number: int = 0, planned_at: int = 0, succeeded: bool = False) -> list[ClientOutcome]:
    """What the summary finds of the task."""
    return file_of(s3, clear_number).current(
        planned_at=planned_at, succeeded=succeeded, lasting=lambda outcome: outcome.item == LASTING
    )


@given(st.lists(OUTCOMES, unique_by=lambda outcome: outcome.client_id, max_size=5))
def test_outcomes_are_read_as_they_were_saved(outcomes: list[ClientOutcome]) -> None:
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
def test_outcomes_older_than_the_plan_are_never_taken(outcomes: list[ClientOutcome], succeeded: bool) -> None:
    s3 = FakeS3()
    file_of(s3, clear_number=1).save(outcomes)
    assert read(s3, clear_number=2, planned_at=2, succeeded=succeeded) == []


def test_outcome_that_no_clearing_undoes_is_always_taken() -> None:
    s3 = FakeS3()
    lasting = ClientOutcome(LASTING, Result.ARCHIVED)
    file_of(s3).save([ARCHIVED, lasting])
    assert read(s3, clear_number=1, planned_at=1, succeeded=False) == [lasting]


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
    s3.before["GetObject"] = raising(s3_error("InternalError", "GetObject"))
    with pytest.raises(StorageUnavailableError):
        file_of(s3).resume()
    with pytest.raises(StorageUnavailableError):
        read(s3)


ITEMS = (1, 2, 3, 4)
SLICES = (Slice(0, 2, "1-2"), Slice(2, 3, "3"), Slice(3, 4, "4"))
ONE, TWO, THREE, FOUR = (ClientOutcome(item, Result.ARCHIVED) for item in ITEMS)


def account(
    found: list[list[ClientOutcome]], why: Callable[[int], str | None] = lambda index: None
) -> list[tuple[int, str | None]]:
    """Item and reason of each outcome, for what the tasks of the slices left."""
    s3 = FakeS3()
    plan_key = "runs/trigger/20260308/run/plan.json"
    work = MappedWork(ClientOutcome, s3, s3.bucket, plan_key, SLICES, clear_number=0)
    for piece, outcomes in zip(SLICES, found, strict=True):
        if outcomes:
            work.file(piece).save(outcomes)
    outcomes_of_run = work.account(
        ITEMS,
        planned_at=0,
        succeeded=[0],
        why_no_outcome=why,
        failure=lambda item, reason: ClientOutcome(item, Result.FAILED, error=reason),
    )
    return [(outcome.item, outcome.reason) for outcome in outcomes_of_run]


def test_outcomes_are_put_into_the_order_of_the_items() -> None:
    assert account([[TWO, ONE], [THREE], [FOUR]]) == [(1, None), (2, None), (3, None), (4, None)]


@pytest.mark.parametrize(("known", "reason"), [("SettingsError: x", "SettingsError: x"), (None, NO_OUTCOME)])
def test_item_without_outcome_has_failed(known: str | None, reason: str) -> None:
    asked: list[int] = []

    def why(index: int) -> str | None:
        asked.append(index)
        return known

    assert account([[ONE], [THREE], []], why) == [(1, None), (2, reason), (3, None), (4, reason)]
    assert asked == [0, 2], "each lookup is a call to Airflow's API"


def test_outcome_of_an_item_that_is_not_planned_counts_nothing() -> None:
    stray = ClientOutcome(99, Result.ARCHIVED)
    assert [item for item, _ in account([[ONE, stray, TWO], [THREE], [FOUR]])] == [1, 2, 3, 4]


def failing(*outcomes: ClientOutcome, retry_after: float | None = None) -> None:
    raise_for_failures(outcomes, f"{len(outcomes)} failed", what="client", retry_after=retry_after)


def test_no_failure_raises_nothing() -> None:
    failing()


def test_failures_of_which_a_retry_may_help_one_are_retried_when_the_partner_asked_to() -> None:
    final = ClientOutcome(1, Result.FAILED, error="answered 404")
    with pytest.raises(RetryableFailuresError, match="2 failed: client 1: answered 404; client 8: DEX API") as caught:
        failing(final, FAILED, retry_after=2.5)
    assert caught.value.retry_after == 2.5
    with pytest.raises(WorkFailedError):
        failing(final)


def test_first_failures_are_named_and_the_others_counted() -> None:
    with pytest.raises(WorkFailedError, match=r"client 3: x; and 2 more$"):
        failing(*(ClientOutcome(number, Result.FAILED, error="x") for number in range(1, 6)))
