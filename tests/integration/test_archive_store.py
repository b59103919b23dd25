"""The archive store on real versions and conditional writes (spec: archive, Store and Re-run)."""

import hashlib
from datetime import UTC, datetime

import pytest

from include.archive.models import ClientOutcome, Result
from tests.integration.archived_client import ArchivedClient
from tests.integration.conftest import Aws


@pytest.fixture
def client(aws: Aws, archive_bucket: str) -> ArchivedClient:
    return ArchivedClient(aws, archive_bucket)


def test_first_answer_is_kept_with_all_that_makes_it_evidence(client: ArchivedClient) -> None:
    body = b'{"trigger": [1]}'
    before = datetime.now(UTC).replace(microsecond=0)

    outcome = client.archive(body)

    kept = client.s3.get_object(
        Bucket=client.bucket, Key=f"trigger/{client.client_id}/{client.client_id}_trigger_20260308.json"
    )
    assert kept["Body"].read() == body
    assert kept["ContentType"] == "application/json"
    assert kept["ServerSideEncryption"] == "AES256"
    metadata = kept["Metadata"]
    archived_at = datetime.strptime(metadata.pop("archived_at"), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert before <= archived_at <= datetime.now(UTC)
    digest = hashlib.sha256(body).hexdigest()
    assert metadata == {
        "client_id": str(client.client_id),
        "trigger_date": "2026-03-08",
        "sha256": digest,
        "source_status": "200",
    }
    assert outcome == ClientOutcome(client.client_id, Result.ARCHIVED, client.key, digest, len(body), kept["VersionId"])


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
def test_body_is_kept_byte_for_byte(client: ArchivedClient, body: bytes) -> None:
    outcome = client.archive(body)
    assert client.bodies() == [body]
    assert outcome.bytes == len(body)


def test_identical_answer_is_not_written_again(client: ArchivedClient) -> None:
    first = client.archive(b"[1]")
    again = client.archive(b"[1]")
    assert again.outcome is Result.UNCHANGED
    assert (again.sha256, again.version_id) == (first.sha256, first.version_id)
    assert client.bodies() == [b"[1]"]


def test_different_answer_becomes_a_new_version(client: ArchivedClient) -> None:
    first = client.archive(b"[1]")
    second = client.archive(b"[2]")
    assert second.outcome is Result.UPDATED
    assert second.version_id != first.version_id
    assert client.bodies() == [b"[2]", b"[1]"]
    kept = client.s3.head_object(Bucket=client.bucket, Key=client.key)
    assert kept["VersionId"] == second.version_id
    assert kept["Metadata"]["sha256"] == hashlib.sha256(b"[2]").hexdigest()


def test_legacy_archive_is_compared_by_its_bytes(client: ArchivedClient) -> None:
    client.put_legacy(b"[1]")
    assert client.archive(b"[1]").outcome is Result.UNCHANGED
    assert client.bodies() == [b"[1]"]
    assert client.archive(b"[2]").outcome is Result.UPDATED
    assert client.bodies() == [b"[2]", b"[1]"]


def test_deleted_archive_is_written_anew(client: ArchivedClient) -> None:
    client.archive(b"[1]")
    client.s3.delete_object(Bucket=client.bucket, Key=client.key)
    assert client.archive(b"[1]").outcome is Result.ARCHIVED
    assert client.bodies() == [b"[1]", b"[1]"]
