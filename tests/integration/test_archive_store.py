"""The archive store on real versions and conditional writes (spec: archive, Store and Re-run)."""

import hashlib
from datetime import UTC, datetime

import pytest

from include.archive.models import ClientOutcome, Result
from tests.integration.conftest import Aws
from tests.integration.shelf import Shelf


@pytest.fixture
def shelf(aws: Aws, archive_bucket: str) -> Shelf:
    return Shelf(aws, archive_bucket)


def test_first_answer_is_kept_with_all_that_makes_it_evidence(shelf: Shelf) -> None:
    body = b'{"trigger": [1]}'
    before = datetime.now(UTC).replace(microsecond=0)

    outcome = shelf.archive(body)

    kept = shelf.s3.get_object(
        Bucket=shelf.bucket, Key=f"trigger/{shelf.client_id}/{shelf.client_id}_trigger_20260308.json"
    )
    assert kept["Body"].read() == body
    assert kept["ContentType"] == "application/json"
    assert kept["ServerSideEncryption"] == "AES256"
    metadata = kept["Metadata"]
    archived_at = datetime.strptime(metadata.pop("archived_at"), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert before <= archived_at <= datetime.now(UTC)
    digest = hashlib.sha256(body).hexdigest()
    assert metadata == {
        "client_id": str(shelf.client_id),
        "trigger_date": "2026-03-08",
        "sha256": digest,
        "source_status": "200",
    }
    assert outcome == ClientOutcome(shelf.client_id, Result.ARCHIVED, shelf.key, digest, len(body), kept["VersionId"])


@pytest.mark.parametrize(
    "body",
    [
        b"  \r\n[ ]\r\n",
        '{"name": "Zażółć gęślą jaźń, 東京 🏭"}'.encode(),
        b'{"escaped": "\\u00e9", "twice": 1, "twice": 2, "number": 1.10, "big": 12345678901234567890}',
        b'{\r\n\t"pretty" : [ 1 , 2 ]\r\n}\n',
        b'{"large": "' + b"x" * 3_000_000 + b'"}',
    ],
    ids=["blank", "unicode", "numbers", "pretty", "large"],
)
def test_body_is_kept_byte_for_byte(shelf: Shelf, body: bytes) -> None:
    outcome = shelf.archive(body)
    assert shelf.bodies() == [body]
    assert outcome.bytes == len(body)


def test_identical_answer_is_not_written_again(shelf: Shelf) -> None:
    first = shelf.archive(b"[1]")
    again = shelf.archive(b"[1]")
    assert again.outcome is Result.UNCHANGED
    assert (again.sha256, again.version_id) == (first.sha256, first.version_id)
    assert shelf.bodies() == [b"[1]"]


def test_different_answer_becomes_a_new_version(shelf: Shelf) -> None:
    first = shelf.archive(b"[1]")
    second = shelf.archive(b"[2]")
    assert second.outcome is Result.UPDATED
    assert second.version_id != first.version_id
    assert shelf.bodies() == [b"[2]", b"[1]"]
    kept = shelf.s3.head_object(Bucket=shelf.bucket, Key=shelf.key)
    assert kept["VersionId"] == second.version_id
    assert kept["Metadata"]["sha256"] == hashlib.sha256(b"[2]").hexdigest()


def test_legacy_archive_is_compared_by_its_bytes(shelf: Shelf) -> None:
    shelf.put_legacy(b"[1]")
    assert shelf.archive(b"[1]").outcome is Result.UNCHANGED
    assert shelf.bodies() == [b"[1]"]
    assert shelf.archive(b"[2]").outcome is Result.UPDATED
    assert shelf.bodies() == [b"[2]", b"[1]"]


def test_deleted_archive_is_written_anew(shelf: Shelf) -> None:
    shelf.archive(b"[1]")
    shelf.s3.delete_object(Bucket=shelf.bucket, Key=shelf.key)
    assert shelf.archive(b"[1]").outcome is Result.ARCHIVED
    assert shelf.bodies() == [b"[1]", b"[1]"]
