import hashlib
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from include.archive.keys import archive_key
from include.archive.models import ClientOutcome, Result, read_response
from include.archive.store import ArchiveStore, lock_until
from include.errors import EmptyAnswerError, PipelineError, StorageRefusedError, StorageUnavailableError
from tests.worlds.s3 import FakeS3, at_once, raising, s3_error, unreachable

DAY = date(2026, 3, 8)
KEY = archive_key(7, DAY)


def archive(s3: FakeS3, body: bytes, *, force: bool = False, bucket: str = "archive") -> ClientOutcome:
    return at_once(ArchiveStore(s3, bucket).save(7, DAY, read_response(body), force=force))


def legacy(s3: FakeS3, body: bytes) -> None:
    """An archive from before this pipeline: no digest in its metadata."""
    s3.put_object(Bucket="archive", Key=KEY, Body=body)
    s3.calls.clear()


def once(s3: FakeS3, operation: str, action: Callable[[], Any], *, when: str | None = None) -> None:
    """Do ``action`` before the next ``operation`` (with request field ``when``), and never again."""

    def hook(request: dict[str, Any]) -> None:
        if when is None or when in request:
            del s3.before[operation]
            action()

    s3.before[operation] = hook


def failing(error: Exception) -> Callable[[dict[str, Any]], None]:
    return raising(error)


def test_first_answer_costs_one_request_and_carries_its_evidence() -> None:
    s3 = FakeS3()
    before = datetime.now(UTC).replace(microsecond=0)
    outcome = archive(s3, b'[{"a": 1}]')
    (version,) = s3.objects[KEY]
    digest = hashlib.sha256(b'[{"a": 1}]').hexdigest()
    assert outcome == ClientOutcome(7, Result.ARCHIVED, KEY, digest, 10, version.id)
    assert version.body == b'[{"a": 1}]'
    assert version.arguments["ContentType"] == "application/json"
    assert version.arguments["ServerSideEncryption"] == "AES256"
    metadata = dict(version.arguments["Metadata"])
    archived_at = datetime.fromisoformat(metadata.pop("archived_at"))
    assert before <= archived_at <= datetime.now(UTC)
    assert metadata == {"client_id": "7", "trigger_date": "2026-03-08", "sha256": digest, "source_status": "200"}
    assert s3.calls == {"PutObject": 1}


def test_identical_answer_is_not_written_again() -> None:
    s3 = FakeS3()
    first = archive(s3, b"[1]")
    again = archive(s3, b"[1]")
    assert (again.outcome, again.version_id, again.sha256) == (Result.UNCHANGED, first.version_id, first.sha256)
    assert s3.bodies(KEY) == [b"[1]"]
    # Its digest tells: nothing is downloaded.
    assert s3.calls == {"PutObject": 2, "HeadObject": 1}


@pytest.mark.parametrize("other", [b"[2]", b"[1] ", b"[1, 2]"], ids=["value", "blank", "longer"])
def test_different_bytes_become_a_new_version(other: bytes) -> None:
    s3 = FakeS3()
    archive(s3, b"[1]")
    outcome = archive(s3, other)
    assert outcome.outcome is Result.UPDATED
    assert s3.bodies(KEY) == [b"[1]", other]
    assert outcome.version_id == s3.objects[KEY][-1].id


def test_identical_archive_without_digest_is_compared_by_its_bytes() -> None:
    s3 = FakeS3()
    legacy(s3, b"[1]")
    assert archive(s3, b"[1]").outcome is Result.UNCHANGED
    assert archive(s3, b"[2]").outcome is Result.UPDATED
    assert s3.bodies(KEY) == [b"[1]", b"[2]"]


def test_what_its_size_tells_of_an_archive_without_digest_costs_no_download() -> None:
    s3 = FakeS3()
    legacy(s3, b"[" + b"1," * 5000 + b"1]")
    with pytest.raises(EmptyAnswerError):
        archive(s3, b"[]")
    assert archive(s3, b"[2]").outcome is Result.UPDATED
    assert s3.calls["GetObject"] == 0


@pytest.mark.parametrize("empty", [b"[]", b"{}", b" [ ] "])
def test_empty_answer_never_replaces_a_full_archive(empty: bytes) -> None:
    s3 = FakeS3()
    archive(s3, b"[1]")
    with pytest.raises(EmptyAnswerError, match="force"):
        archive(s3, empty)
    assert s3.bodies(KEY) == [b"[1]"]


@pytest.mark.parametrize("full", [b"[1]", b"not even json", b"null", b'""'])
def test_what_counts_as_a_full_archive(full: bytes) -> None:
    s3 = FakeS3()
    legacy(s3, full)
    with pytest.raises(EmptyAnswerError):
        archive(s3, b"[]")
    assert s3.bodies(KEY) == [full]


def test_force_lets_the_empty_answer_through() -> None:
    s3 = FakeS3()
    archive(s3, b"[1]")
    assert archive(s3, b"[]", force=True).outcome is Result.UPDATED
    assert s3.bodies(KEY) == [b"[1]", b"[]"]


def test_empty_answer_may_be_first_and_may_replace_another_empty_one() -> None:
    s3 = FakeS3()
    assert archive(s3, b"[]").outcome is Result.ARCHIVED
    assert archive(s3, b"{}").outcome is Result.UPDATED
    assert archive(s3, b"{}").outcome is Result.UNCHANGED


@pytest.mark.parametrize("nothing", [b"", b" \r\n"])
def test_archive_of_before_without_any_byte_is_an_empty_one(nothing: bytes) -> None:
    s3 = FakeS3()
    legacy(s3, nothing)
    assert archive(s3, b"[]").outcome is Result.UPDATED


def test_full_answer_replaces_an_empty_archive() -> None:
    s3 = FakeS3()
    archive(s3, b"[]")
    assert archive(s3, b"[1]").outcome is Result.UPDATED


def test_deleted_archive_is_written_again() -> None:
    s3 = FakeS3()
    archive(s3, b"[1]")
    s3.delete(KEY)
    assert archive(s3, b"[1]").outcome is Result.ARCHIVED


def settle(s3: FakeS3, body: bytes) -> ClientOutcome:
    """Lose a race, as a task does, and try again, as its retry does."""
    with pytest.raises(StorageUnavailableError):
        archive(s3, body)
    return archive(s3, body)


def test_race_for_a_new_version_is_lost_without_overwriting() -> None:
    s3 = FakeS3()
    archive(s3, b"[1]")
    once(s3, "PutObject", lambda: archive(s3, b"[2]"), when="IfMatch")
    assert settle(s3, b"[3]").outcome is Result.UPDATED
    assert s3.bodies(KEY) == [b"[1]", b"[2]", b"[3]"]


def test_race_lost_to_the_same_answer_ends_unchanged() -> None:
    s3 = FakeS3()
    archive(s3, b"[1]")
    once(s3, "PutObject", lambda: archive(s3, b"[2]"), when="IfMatch")
    assert settle(s3, b"[2]").outcome is Result.UNCHANGED
    assert s3.bodies(KEY) == [b"[1]", b"[2]"]


def test_race_for_the_first_archive_is_settled_at_once() -> None:
    s3 = FakeS3()
    once(s3, "PutObject", lambda: archive(s3, b"[2]"))
    assert archive(s3, b"[2]").outcome is Result.UNCHANGED
    assert s3.bodies(KEY) == [b"[2]"]


def test_archive_that_turns_full_in_between_is_not_replaced_by_an_empty_answer() -> None:
    s3 = FakeS3()
    archive(s3, b"{}")
    once(s3, "PutObject", lambda: archive(s3, b"[1]"), when="IfMatch")
    with pytest.raises(StorageUnavailableError):
        archive(s3, b"[]")
    with pytest.raises(EmptyAnswerError):
        archive(s3, b"[]")
    assert s3.bodies(KEY) == [b"{}", b"[1]"]


@pytest.mark.parametrize(
    ("operation", "when", "kept"),
    [("HeadObject", None, b"[1]"), ("PutObject", "IfMatch", b"[1]"), ("GetObject", None, b"[2]")],
    ids=["before the comparison", "before the write", "before the old bytes are read"],
)
def test_archive_deleted_in_between_is_worth_a_retry(operation: str, when: str | None, kept: bytes) -> None:
    s3 = FakeS3()
    legacy(s3, kept)
    once(s3, operation, lambda: s3.delete(KEY), when=when)
    assert settle(s3, b"[3]").outcome is Result.ARCHIVED


def test_archive_replaced_while_its_old_bytes_are_read_is_worth_a_retry() -> None:
    s3 = FakeS3()
    legacy(s3, b"[1]")
    once(s3, "GetObject", lambda: legacy(s3, b"[2]"))
    assert settle(s3, b"[1]").outcome is Result.UPDATED
    assert s3.bodies(KEY) == [b"[1]", b"[2]", b"[1]"]


def test_archive_replaced_by_the_same_answer_while_its_old_bytes_are_read_is_named_as_it_is_now() -> None:
    s3 = FakeS3()
    legacy(s3, b"[1]")
    once(s3, "GetObject", lambda: legacy(s3, b"[2]"))
    outcome = settle(s3, b"[2]")
    assert (outcome.outcome, outcome.version_id) == (Result.UNCHANGED, s3.objects[KEY][-1].id)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (s3_error("SlowDown"), StorageUnavailableError),
        (s3_error("ConditionalRequestConflict"), StorageUnavailableError),
        (unreachable(), StorageUnavailableError),
        (s3_error("AccessDenied"), StorageRefusedError),
    ],
    ids=["SlowDown", "ConditionalRequestConflict", "unreachable", "AccessDenied"],
)
@pytest.mark.parametrize("operation", ["PutObject", "HeadObject", "GetObject"])
def test_failure_of_any_request_writes_nothing(operation: str, error: Exception, expected: type[PipelineError]) -> None:
    s3 = FakeS3()
    legacy(s3, b"[1]")
    s3.before[operation] = failing(error)
    with pytest.raises(expected, match=KEY):
        archive(s3, b"[2]")
    assert s3.bodies(KEY) == [b"[1]"]


def test_absent_bucket_is_refused() -> None:
    with pytest.raises(StorageRefusedError, match="NoSuchBucket"):
        archive(FakeS3(), b"[1]", bucket="typo")


def test_locked_archive_brings_the_end_of_its_lock_with_each_write() -> None:
    s3 = FakeS3()
    lock = lock_until("COMPLIANCE", 10, datetime(2026, 3, 8, 12, tzinfo=UTC))
    assert lock == {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": datetime(2026, 3, 18, 12, tzinfo=UTC)}
    store = ArchiveStore(s3, "archive", lock)
    at_once(store.save(1, date(2026, 3, 8), read_response(b"{}"), force=False))
    (version,) = s3.objects["trigger/1/1_trigger_20260308.json"]
    assert lock.items() <= version.arguments.items()
    assert lock_until("NONE", 10, datetime(2026, 3, 8, tzinfo=UTC)) == {}
