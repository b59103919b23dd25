"""S3 Object Lock: locked evidence stays whatever is put above it, and the proof says so (spec: archive, Proof)."""

import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from include.archive.models import Result
from include.archive.store import lock_until
from ops.evidence import Scope, verify
from ops.evidence_adopt import adopt
from ops.report import Report
from tests.integration.archived_client import DAY, ArchivedClient
from tests.integration.conftest import Aws
from tests.worlds.evidence import summarize

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def client(aws: Aws) -> ArchivedClient:
    """A client's place in a new bucket with Object Lock, as the template's parameter makes it."""
    bucket = f"locked-archive-{uuid.uuid4().hex}"
    aws.s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    return ArchivedClient(aws, bucket)


def run(client: ArchivedClient, name: str, body: bytes, lock: dict[str, Any]) -> Result:
    """A run that archives one answer, with all of its documents."""
    outcome = client.archive(body, lock=lock)
    summarize(client.s3, name, DAY, (outcome,), bucket=client.bucket, lock=lock)
    return outcome.outcome


def proof(client: ArchivedClient) -> Report:
    """What ``ops evidence verify`` says of the bucket."""
    environment = SimpleNamespace(output=lambda name: client.bucket, aws=lambda service, connections: client.s3)
    return verify(environment, Scope(), tell=lambda text: None)


def versions(client: ArchivedClient) -> list[tuple[str, str]]:
    found = client.s3.list_object_versions(Bucket=client.bucket)["Versions"]
    return [(version["Key"], version["VersionId"]) for version in found]


def refused(client: ArchivedClient, key: str, version: str) -> bool:
    try:
        client.s3.delete_object(Bucket=client.bucket, Key=key, VersionId=version)
    except ClientError as error:
        return bool(error.response["Error"]["Code"] == "AccessDenied")
    return False


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_locked_versions_of_answers_manifests_and_ledger_cannot_be_deleted_and_verify_shows_until_when(
    client: ArchivedClient, mode: str
) -> None:
    lock = lock_until(mode, 30, NOW)
    assert run(client, "first", b"[1]", lock) is Result.ARCHIVED
    assert run(client, "second", b"[2]", lock) is Result.UPDATED
    kept = versions(client)
    assert {key.partition("/")[0] for key, _ in kept} == {"trigger", "manifests", "ledger"}
    assert [place for place in kept if not refused(client, *place)] == []
    report = proof(client)
    assert (report.rows, report.failed) == ([], False)
    assert report.notes[:-1] == [f"2 of them are locked, at least until {NOW + timedelta(days=30):%Y-%m-%d}"]


def test_what_is_adopted_is_locked_with_its_manifest_and_entry(client: ArchivedClient) -> None:
    run(client, "first", b"[1]", {})
    before = versions(client)
    client.s3.put_object(Bucket=client.bucket, Key=client.key, Body=b"[2]")
    stack = {"ArchiveLockMode": "GOVERNANCE", "ArchiveLockDays": "30"}
    environment = SimpleNamespace(
        output=lambda name: client.bucket,
        aws=lambda service, connections: client.s3,
        parameter=lambda name, default: stack[name],
    )
    adopt(environment, added=[client.key], agree=lambda text: None, tell=lambda text: None)
    taken = [place for place in versions(client) if place not in before]
    assert {key.partition("/")[0] for key, _ in taken} == {"trigger", "manifests", "ledger"}
    assert [place for place in taken if not refused(client, *place)] == []
    assert proof(client).rows == []


def test_delete_marker_above_a_locked_answer_hides_it_until_the_marker_goes_and_verify_finds_it(
    client: ArchivedClient,
) -> None:
    run(client, "first", b"[1]", lock_until("COMPLIANCE", 30, NOW))
    marker = client.s3.delete_object(Bucket=client.bucket, Key=client.key)
    assert client.bodies() == [b"[1]"], "the version itself is there"
    (finding,) = proof(client).rows
    assert (finding["kind"], finding["what"]) == ("missing", "a delete marker hides the answer")
    client.s3.delete_object(Bucket=client.bucket, Key=client.key, VersionId=marker["VersionId"])
    assert proof(client).rows == []


def test_version_that_somebody_puts_above_a_locked_answer_is_found_and_the_answer_stays(client: ArchivedClient) -> None:
    run(client, "first", b"[1]", lock_until("COMPLIANCE", 30, NOW))
    client.s3.put_object(Bucket=client.bucket, Key=client.key, Body=b"[forged]")
    (finding,) = proof(client).rows
    assert (finding["kind"], finding["what"]) == ("added", "no entry of the ledger knows it")
    assert client.bodies() == [b"[forged]", b"[1]"]


def test_default_retention_of_the_bucket_locks_what_is_written_without_a_lock(client: ArchivedClient) -> None:
    retention = {"Mode": "GOVERNANCE", "Days": 10}
    client.s3.put_object_lock_configuration(
        Bucket=client.bucket,
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}},
    )
    run(client, "first", b"[1]", {})
    assert all(refused(client, *place) for place in versions(client))
    assert "1 of them are locked, at least until" in proof(client).notes[0]
