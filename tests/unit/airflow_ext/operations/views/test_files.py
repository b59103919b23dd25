"""Files: waiting, under way, done, dead letters."""

import json
from datetime import date
from typing import Any

import pytest

from airflow_ext.outside import outside
from include.call_details.dead_letters import DeadLetter, DeadLetters
from include.call_details.keys import plan_key, processed_key, processing_key, receipt_key, run_id
from include.call_details.ledger import ChunkLedger, Claims
from include.call_details.models import Chunk, Claim, FileVersion, Plan, Settled
from include.call_details.rate_limit import LEASE_SECONDS, ConcurrencyLimiter
from include.clients.dynamodb import ItemTable
from include.clients.s3 import put_json
from tests.worlds.dynamodb import TABLE
from tests.worlds.operations import NOW, SETTINGS, OperationsPage
from tests.worlds.sqs import QUEUE_URL

FILE = FileVersion("archive", "incoming/a <b>.jsonl", "e1")


def test_files_that_wait_are_those_that_will_be_taken(page: OperationsPage) -> None:
    for key in ("incoming/a.txt", "incoming/b.tmp", "incoming/folder/"):
        page.s3.put_object(Bucket="archive", Key=key, Body=b"abc")
    found = page.get("/files/waiting")
    assert [(row["key"], row["bytes"]) for row in found["rows"]] == [("incoming/a.txt", 3)]


def test_files_that_wait_in_a_whole_bucket_are_found_among_any_number_of_others(
    page: OperationsPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", json.dumps({**SETTINGS, "incoming_prefix": ""}))
    for key in ("a.txt", "z.txt", *(f"{own}{number}" for own in ("plans/", "receipts/") for number in range(1001))):
        page.s3.put_object(Bucket="archive", Key=key, Body=b"abc")
    found = page.get("/files/waiting")
    assert [row["key"] for row in found["rows"]] == ["a.txt", "z.txt"]
    assert found["left_out"] == []


def test_file_under_way_has_its_progress(page: OperationsPage) -> None:
    s3: Any = page.s3
    dynamodb: Any = page.tables.ledger
    table = ItemTable(dynamodb, TABLE)
    claim = Claims(table, clock=lambda: NOW).claim(FILE, run_id(FILE), begun=True)
    assert isinstance(claim, Claim)
    chunks = tuple(Chunk(number, 0, 1, 1, 5000, number * 10, 10) for number in range(2))
    plan = Plan(FILE, processing_key(FILE), "e1", 9, False, 500, "t", 10_000, 9, 0, chunks)
    put_json(s3, "archive", plan_key(FILE, 1), plan.to_document())
    Claims(table, clock=lambda: NOW).note_plan(claim, plan_key(FILE, 1))
    ledger = ChunkLedger.open(table, claim, 0, first=0, batches=10)
    ledger.acknowledge([Settled(number, 500, accepted=number != 1) for number in range(4)])
    for permits, ago in ((5, LEASE_SECONDS), (7, 0.0)):
        ConcurrencyLimiter(table, "api", 50, clock=lambda ago=ago: NOW - ago).refresh(f"since {ago}", permits)
    found = page.get("/files/under-way")
    assert found["total"] == 1
    row = found["rows"][0]
    assert (row["key"], row["run_id"]) == (FILE.key, run_id(FILE))
    assert (row["settled"], row["batches"], row["dead"]) == (4, 20, 1)
    assert (row["records_settled"], row["records"]) == (2000, 10_000)
    assert row["seconds_left"] is not None
    assert (found["permits"], found["permits_of"]) == (7, 50), "not those of a task that died"


def test_looking_changes_nothing_in_the_ledger(page: OperationsPage) -> None:
    dynamodb: Any = page.tables.ledger
    claims = Claims(ItemTable(dynamodb, TABLE), clock=lambda: NOW)
    claim = claims.claim(FILE, "run", begun=True)
    assert isinstance(claim, Claim)
    before = dict(page.tables.ledger.items)
    page.get("/files/under-way")
    assert page.tables.ledger.items == before


def test_file_that_is_done_has_its_receipt(page: OperationsPage) -> None:
    s3: Any = page.s3
    page.s3.put_object(Bucket="archive", Key="processed/2026/03/08/x/strange", Body=b"")
    stored = page.s3.objects["processed/2026/03/08/x/strange"][0].stored_at.date()
    file = FileVersion("archive", "incoming/b.txt", "e" * 32)
    page.s3.put_object(Bucket="archive", Key=processed_key(file, stored), Body=b"abc")
    receipt = {"outcome": "processed", "key": file.key, "records_read": 2, "records_accepted": 2, "run_id": "r"}
    put_json(s3, "archive", receipt_key(file), receipt)
    found = page.get(f"/files/done?day={stored}")
    assert [(row["key"], row["outcome"], row["records_accepted"]) for row in found["rows"]] == [
        (file.key, "processed", 2)
    ]


def test_file_that_was_moved_after_its_day_is_done_on_the_day_of_its_receipt(page: OperationsPage) -> None:
    page.s3.put_object(Bucket="archive", Key=processed_key(FILE, date(2026, 3, 8)), Body=b"abc")
    page.s3.put_object(Bucket="archive", Key=receipt_key(FILE), Body=b"{")
    found = page.get("/files/done?day=2026-03-08")
    assert [row["stored_as"] for row in found["rows"]] == [processed_key(FILE, date(2026, 3, 8))]
    assert len(found["strips"]) == 1, "the receipt that is none"


def test_dead_letters_are_listed_without_records_and_shown_with_them(page: OperationsPage) -> None:
    s3: Any = page.s3
    sqs: Any = page.sqs
    letter = DeadLetter(FILE, 0, 1, 500, "k", 3, 422, "refused \u202e", "2026-03-08T00:00:00Z")
    body = json.dumps({"records": [{"secret": "<script>"}]}).encode()
    DeadLetters(s3, sqs, "archive", QUEUE_URL).save(letter, body)
    page.sqs.send_message(QueueUrl=QUEUE_URL, MessageBody="not ours")
    answer = page.ask("/files/dead-letters", user="viewer")
    assert "secret" not in answer.text
    rows = answer.json()["rows"]
    assert (rows[0]["file"], rows[0]["status"], rows[0]["records"]) == (FILE.key, 422, "1-500")
    assert rows[0]["idempotency_key"] == "k"
    assert (rows[1]["what"], answer.json()["total"]) == ("a message that is none of ours", 2)
    shown = page.get(f"/files/dead-letters/body?key={rows[0]['what']}&version={rows[0]['version_id']}", user="auditor")
    assert shown["text"].encode() == body
    assert page.ask("/files/dead-letters/body?key=trigger/1/1_trigger_20260308.json").status_code == 404
    assert page.ask("/files/dead-letters/body?key=dead-letter/none").status_code == 404


def test_dead_letters_that_another_reader_hides_are_waited_for(page: OperationsPage) -> None:
    sqs: Any = page.sqs
    sqs.send_message(QueueUrl=QUEUE_URL, MessageBody="not ours")
    sqs.receive_message(QueueUrl=QUEUE_URL, MaxNumberOfMessages=10)
    with outside.replaced(sleep=lambda seconds: sqs.show_all()):
        assert len(page.get("/files/dead-letters")["rows"]) == 1
