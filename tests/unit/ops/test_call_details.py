import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from include.call_details.ledger import Claims
from include.call_details.models import Claim, FileVersion
from include.clients.dynamodb import ItemTable
from include.errors import AwsRefusedError
from ops.call_details import files, replayed, shown
from ops.environment import Environment
from ops.report import OpsError
from tests.worlds.dynamodb import TABLE, FakeLedgerTable, table_error
from tests.worlds.s3 import BUCKET, FakeIngestBucket
from tests.worlds.sqs import QUEUE_URL, FakeSqs


class Ingest(Environment):
    """An environment that has nothing but the bucket, the ledger, and the stack that names them."""

    def aws(self, service: str, *, connections: int = 10, attempts: int = 3) -> Any:
        return self.session[service]


class Stacks:
    """The application's stack with these parameters."""

    def __init__(self, **parameters: str) -> None:
        self.parameters = parameters

    def describe_stacks(self, **request: Any) -> dict[str, Any]:
        names = {"IngestBucketName": BUCKET, "IngestLedgerTableName": TABLE, "CallDetailsDeadLettersUrl": QUEUE_URL}
        outputs = [{"OutputKey": name, "OutputValue": value} for name, value in names.items()]
        parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in self.parameters.items()]
        return {"Stacks": [{"Outputs": outputs, "Parameters": parameters}]}


def ingest(s3: FakeIngestBucket, **parameters: str) -> Ingest:
    clients = {"s3": s3, "dynamodb": FakeLedgerTable(), "cloudformation": Stacks(**parameters)}
    return Ingest("test", clients, None, {}, httpx.Client())


@pytest.mark.parametrize(
    ("parameters", "waiting"),
    [
        ({}, ["incoming/a.txt"]),
        ({"IncomingPrefix": "incoming/"}, ["incoming/a.txt"]),
        ({"IncomingPrefix": "drop/"}, ["drop/b.txt"]),
        ({"IncomingPrefix": ""}, ["drop/b.txt", "incoming/a.txt"]),
    ],
)
def test_files_wait_where_the_stack_says_that_they_are_dropped(parameters: dict[str, str], waiting: list[str]) -> None:
    s3 = FakeIngestBucket()
    for key in ("incoming/", "incoming/a.txt", "drop/b.txt", "plans/c.json"):
        s3.drop(key, b"{}")
    assert [row["file"] for row in files(ingest(s3, **parameters)).rows if row["state"] == "waiting"] == waiting


def test_files_that_wait_are_found_without_listing_what_the_ingest_keeps_or_all_that_wait() -> None:
    s3 = FakeIngestBucket()
    for number in range(60):
        s3.drop(f"dropped/{number:02d}.txt", b"{}")
        s3.drop(f"processed/2026/03/01/e{number:02d}/a.txt", b"{}")
        s3.drop(f"zone/{number:02d}.txt", b"{}")
    assert [row["file"] for row in files(ingest(s3, IncomingPrefix="")).rows] == [
        f"dropped/{number:02d}.txt" for number in range(25)
    ]
    # Two keys are a page here.
    assert s3.calls["pages"] == 13
    for number in range(60):
        s3.delete(f"dropped/{number:02d}.txt")
    assert files(ingest(s3, IncomingPrefix="")).rows[0]["file"] == "zone/00.txt"
    assert s3.calls["pages"] == 13 + 1 + 13


def refuse() -> None:
    raise table_error("AccessDeniedException")


def test_file_under_way_is_shown_with_its_run_and_nothing_is_written() -> None:
    environment = ingest(FakeIngestBucket())
    ledger = environment.session["dynamodb"]
    claims = Claims(ItemTable(ledger, TABLE))
    for etag, owner in (('"e1"', "done"), ('"e2"', "run-2")):
        claim = claims.claim(FileVersion(BUCKET, "incoming/a.txt", etag), owner)
        assert isinstance(claim, Claim)
        if owner == "done":
            # As an owner leaves it that dies in the middle.
            ledger.before["delete_item"] = refuse
            with pytest.raises(AwsRefusedError):
                claims.complete(claim, "receipts/1.json")
    assert [(row["state"], row["run"]) for row in files(environment).rows] == [("claimed", "run-2")]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"[" * 100_000], ids=lambda body: body[:30])
def test_object_that_is_no_receipt_hides_no_other(body: bytes) -> None:
    s3 = FakeIngestBucket()
    receipt = {"outcome": "processed", "key": "incoming/a.txt", "records_accepted": 1, "records_read": 1}
    for key, content in (("receipts/", body), ("receipts/a.json", json.dumps(receipt).encode())):
        s3.drop(key, content)
    assert {(row["state"], row["file"]) for row in files(ingest(s3)).rows} == {
        ("no receipt", "receipts/"),
        ("processed", "incoming/a.txt"),
    }


def test_newest_receipts_are_shown_and_they_come_first() -> None:
    s3 = FakeIngestBucket()
    for number in range(30):
        receipt = {"outcome": "processed", "key": f"incoming/{number}.txt", "records_accepted": 1, "records_read": 1}
        key = f"receipts/{number:02}.json"
        s3.drop(key, json.dumps(receipt).encode())
        # The order of their names is not that of their times.
        s3.objects[key] = [replace(s3.objects[key][0], stored_at=datetime(2026, 3, 8, 12, 7 * number % 30, tzinfo=UTC))]
    newest = sorted(range(30), key=lambda number: 7 * number % 30, reverse=True)[:25]
    assert [row["file"] for row in files(ingest(s3)).rows] == [f"incoming/{number}.txt" for number in newest]


@pytest.mark.parametrize("key", ["dead-letter/no.txt/000000.json", "incoming/a.txt", "incoming/list.json"])
def test_key_that_is_none_of_a_dead_letter_is_said(key: str) -> None:
    s3 = FakeIngestBucket()
    s3.drop("incoming/a.txt", b"a line")
    s3.drop("incoming/list.json", b"[1]")
    with pytest.raises(OpsError, match=f"there is no dead letter {key}"):
        shown(ingest(s3), key)


def test_dead_letter_is_shown_record_by_record_each_digit_as_it_was_sent() -> None:
    records = ['{"amount": 2.50, "id": 1e400}', "0.10", '"\\ud800, ] "', "[" * 3_000 + "]" * 3_000]
    s3 = FakeIngestBucket()
    body = f'{{"records": [{", ".join(records)}], "batchSize": 4}}'
    s3.drop("dead-letter/a[/b].txt/000000.json", body.encode())
    report = shown(ingest(s3), "dead-letter/a[/b].txt/000000.json")
    assert [row["record"] for row in report.rows] == records
    report.write(as_json=False)


class Replays(Ingest):
    """The same, whose runs succeed; what they returned may not be seen."""

    def airflow(self, method: str, path: str, *, params: Any = None, body: Any = None) -> Any:
        if "/xcomEntries/" in path:
            raise OpsError("Airflow answered 403: Forbidden", status=403)
        run = {"dag_run_id": "r", "state": "success"}
        return {"is_paused": False, **run, "dag_runs": [run]}


def test_replay_has_succeeded_though_its_numbers_may_not_be_seen() -> None:
    environment = Replays("test", {"sqs": FakeSqs(), "cloudformation": Stacks()}, None, {}, httpx.Client())
    told: list[str] = []
    report = replayed(environment, [], limit=1, dry_run=False, agree=told.append, tell=told.append)
    assert (report.title, report.failed) == ("replay r: success", False)
    assert ["403: Forbidden" in note for note in report.notes] == [True]
