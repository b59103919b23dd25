"""A run's working papers in S3: what is written is what is read back."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from include.archive.keys import ledger_key, manifest_key, plan_key, run_manifest_key
from include.archive.ledger import Ledger
from include.archive.models import Client, ClientOutcome, Plan, Result, cut
from include.archive.run import ArchiveRun, save_plan
from include.clients.s3 import get_json, put_json
from include.errors import StorageRefusedError
from include.mapped_work import OutcomeFile, outcomes_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.integration.conftest import Aws

DAYS = (date(2026, 11, day) for day in itertools.count(1))
RUN_ID = "scheduled__2026-11-01T06:00:00+00:00"
CLIENTS = (Client(2, "Łódź Energía & Söhne"), Client(3, 'quotes " and \\'), Client(11, "日本"))
DONE = ClientOutcome(2, Result.ARCHIVED, "trigger/2/2_trigger_20261101.json", "ab" * 32, 17, "version-1")
BROKEN = ClientOutcome(3, Result.FAILED, error="DEX API answered 503", retryable=True, retry_after=1.5)


@pytest.fixture
def s3(aws: Aws) -> S3Client:
    return aws.s3


@pytest.fixture
def day() -> date:
    """A day that no other test uses."""
    return next(DAYS)


def _plan(s3: S3Client, bucket: str, day: date) -> tuple[str, Plan]:
    """Keep a plan of two slices; returns where it lies, and the plan."""
    plan = Plan(
        run_id=RUN_ID,
        clear_number=0,
        day=day,
        force=True,
        concurrency=16,
        base_url="https://dex.example.com/v1",
        clients=CLIENTS,
        slices=cut(CLIENTS, max_tasks=2, clients_per_task=2),
    )
    return save_plan(s3, bucket, plan), plan


def test_plan_comes_back_as_it_was_made(s3: S3Client, archive_bucket: str, day: date) -> None:
    place, plan = _plan(s3, archive_bucket, day)
    key = plan_key(day, RUN_ID)
    assert place == f"s3://{archive_bucket}/{key}"
    assert ArchiveRun.load(place, s3).plan == plan
    assert plan.clients == CLIENTS
    kept = s3.head_object(Bucket=archive_bucket, Key=key)
    assert (kept["ContentType"], kept["ServerSideEncryption"]) == ("application/json", "AES256")


def test_outcomes_are_resumed_by_a_retry_and_not_after_a_clear(s3: S3Client, archive_bucket: str, day: date) -> None:
    key = outcomes_key(plan_key(day, RUN_ID), 0)
    OutcomeFile(ClientOutcome, s3, archive_bucket, key, clear_number=1).save([DONE, BROKEN])

    assert OutcomeFile(ClientOutcome, s3, archive_bucket, key, clear_number=1).resume() == {2: DONE, 3: BROKEN}
    assert OutcomeFile(ClientOutcome, s3, archive_bucket, key, clear_number=2).resume() == {}

    def found(clear_number: int, planned_at: int) -> list[ClientOutcome]:
        file = OutcomeFile(ClientOutcome, s3, archive_bucket, key, clear_number=clear_number)
        return file.current(planned_at=planned_at, succeeded=False, lasting=lambda outcome: False)

    assert found(1, 0) == [DONE, BROKEN]
    assert found(2, 0) == [DONE, BROKEN], "they name a failure"
    assert found(2, 2) == []


def test_outcomes_that_were_never_written_are_none(s3: S3Client, archive_bucket: str, day: date) -> None:
    key = outcomes_key(plan_key(day, RUN_ID), 7)
    file = OutcomeFile(ClientOutcome, s3, archive_bucket, key, clear_number=0)
    assert file.resume() == {}
    assert file.current(planned_at=0, succeeded=True, lasting=lambda outcome: True) == []


def test_saving_again_replaces_the_outcomes(s3: S3Client, archive_bucket: str, day: date) -> None:
    key = outcomes_key(plan_key(day, RUN_ID), 0)
    ledger = OutcomeFile(ClientOutcome, s3, archive_bucket, key, clear_number=0)
    ledger.save([DONE, BROKEN])
    mended = replace(DONE, client_id=3)
    ledger.save([DONE, mended])
    assert ledger.resume() == {2: DONE, 3: mended}


def test_manifest_accounts_for_every_client(s3: S3Client, archive_bucket: str, day: date) -> None:
    place, plan = _plan(s3, archive_bucket, day)
    first, second = plan.slices
    lost = plan.clients[second.start : second.stop]
    done = [replace(DONE, client_id=client.id) for client in plan.clients[first.start : first.stop]]
    outcomes_at = outcomes_key(plan_key(day, RUN_ID), first.start)
    OutcomeFile(ClientOutcome, s3, archive_bucket, outcomes_at, clear_number=0).save(done)

    key, manifest = ArchiveRun.load(place, s3).account(clear_number=0, succeeded=[0], why_no_outcome=lambda _: "killed")

    assert key == manifest_key(day)
    document = get_json(s3, archive_bucket, run_manifest_key(day, RUN_ID))
    assert document == manifest.to_document()
    (run,) = get_json(s3, archive_bucket, key)["runs"]
    entry = Ledger(s3, archive_bucket).last()
    assert get_json(s3, archive_bucket, ledger_key(entry)).items() >= run.items() - {("run_id", RUN_ID)}
    assert document["run_id"] == RUN_ID
    assert document["trigger_date"] == day.isoformat()
    assert document["total_clients"] == len(CLIENTS)
    assert document["successful_archives"] == len(done)
    assert document["failed_archives"] == len(lost)
    assert document["errors"] == [
        {"client_id": client.id, "client_name": client.name, "error": "killed"} for client in lost
    ]
    assert [item["client_id"] for item in document["clients"]] == [client.id for client in CLIENTS]


def test_run_whose_plan_has_expired_says_how_to_go_on(s3: S3Client, archive_bucket: str, day: date) -> None:
    with pytest.raises(StorageRefusedError, match="clear list_clients"):
        ArchiveRun.load(f"s3://{archive_bucket}/{plan_key(day, 'gone')}", s3)


def test_json_of_any_text_comes_back(s3: S3Client, archive_bucket: str) -> None:
    document = {"text": 'Zażółć " \\ \u2028 🏭', "number": 1.5, "none": None, "list": [True, []]}
    put_json(s3, archive_bucket, "runs/any.json", document)
    assert get_json(s3, archive_bucket, "runs/any.json") == document
