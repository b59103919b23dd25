"""The ingest's part of the demo: what it expects is right, and it says so when something promised is missing."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from include.call_details.keys import idempotency_key, run_id
from local.clients.airflow import AirflowApi
from local.demo.call_details import (
    INGEST_DAG_ID,
    REFUSED,
    REFUSED_BATCH,
    REFUSED_TEXT,
    WATCH_DAG_ID,
    Dropped,
    Found,
    Replayed,
    drop_samples,
    end_watch,
    records_of,
    report_on,
    wait_for_runs,
)
from local.demo.report import Report
from local.partners.call_details import read_batch
from tests.worlds.s3 import BUCKET, FakeIngestBucket

TIMESTAMP = "2026-03-08T12:00:00.000Z"


@pytest.fixture(scope="module")
def bucket() -> FakeIngestBucket:
    return FakeIngestBucket()


@pytest.fixture(scope="module")
def dropped(bucket: FakeIngestBucket) -> list[Dropped]:
    return drop_samples(bucket, BUCKET)


def test_lines_that_are_not_json_become_records_of_their_own() -> None:
    text = b'{"n":1.50}\r\n\n[NaN]\n \t\n\xff;2\r\n  "x" '
    assert records_of(text) == (
        '{"n":1.50}',
        '{"data":"[NaN]","lineNumber":2}',
        '{"data":"\ufffd;2","lineNumber":3}',
        '"x"',
    )


def test_the_files_are_dropped_as_they_were_described(dropped: list[Dropped], bucket: FakeIngestBucket) -> None:
    for each in dropped:
        content = bucket.body(each.file.key)
        text = gzip.decompress(content) if each.file.key.endswith(".gz") else content
        assert len(each.records) == each.sample.records
        assert each.invalid_bytes == text.count(b"\xff")
    assert [each.invalid_bytes > 0 for each in dropped] == [False, True, False]
    assert len({each.file.etag for each in dropped}) == 3


def test_only_one_batch_of_all_is_refused(dropped: list[Dropped]) -> None:
    hit = [
        (each.sample, number // 500)
        for each in dropped
        for number, record in enumerate(each.records)
        if REFUSED_TEXT in record
    ]
    assert hit == [(REFUSED, REFUSED_BATCH)]


def test_a_batch_that_the_stub_takes_is_known_by_the_same_digest(dropped: list[Dropped]) -> None:
    for each in dropped:
        body = f'{{"records":[{",".join(each.records[:500])}],"timestamp":"{TIMESTAMP}","batchSize":500}}'
        first = each.batches[idempotency_key(each.file, 0)]
        assert (first["records"], first["sha256"]) == read_batch(body.encode())


@dataclass
class World:
    """What the demo finds when all went well; tests take something away."""

    dropped: list[Dropped]
    found: Found
    replayed: Replayed
    most_calls: int = 40
    active: list[str] = field(default_factory=list)

    def report(self) -> Report:
        return report_on(
            self.dropped,
            self.found,
            self.replayed,
            seconds=20.0,
            most_calls=self.most_calls,
            active=self.active,
        )


@pytest.fixture
def world(dropped: list[Dropped]) -> World:
    taken = {key: batch for each in dropped for key, batch in each.batches.items()}
    refused_key = idempotency_key(dropped[2].file, REFUSED_BATCH)
    receipts = {f"receipts/{number}": _receipt(each) for number, each in enumerate(dropped)}
    body = f'{{"records":[{REFUSED_TEXT}"at":1}}]}}'.encode()
    pointer = {"key": "dead-letter/1", "version_id": "1", "sha256": hashlib.sha256(body).hexdigest()}
    found = Found(
        runs={run_id(each.file): "success" for each in dropped},
        keys=[*receipts, *(receipt["stored_as"] for receipt in receipts.values()), "plans/1"],
        receipts=receipts,
        letters=[{"body": pointer, "idempotency_key": refused_key, "batch": REFUSED_BATCH}],
        bodies=[body],
        taken={key: batch for key, batch in taken.items() if key != refused_key},
    )
    alert = f"WARNING: 1 of 50 batches of incoming/{REFUSED.name} could not be delivered"
    summary = {"received": 1, "accepted": 1, "failed": 0, "unreadable": 0, "dry_run": False}
    return World(dropped, found, Replayed("manual__1", "success", summary, 0, taken, [alert], [alert]))


def _receipt(file: Dropped) -> dict[str, Any]:
    dead = 500 if file.sample == REFUSED else 0
    return {
        "key": file.file.key,
        "etag": file.file.etag,
        "records_read": len(file.records),
        "records_accepted": len(file.records) - dead,
        "records_dead_lettered": dead,
        "batches_read": len(file.batches),
        "batches_accepted": len(file.batches) - dead // 500,
        "batches_dead_lettered": dead // 500,
        "invalid_bytes": file.invalid_bytes,
        "stored_as": f"processed/2026/03/08/{file.file.etag}/{file.sample.name}",
    }


def test_a_run_in_which_all_went_well_passes(world: World) -> None:
    report = world.report()
    assert report.passed
    shown = {exhibit.title: exhibit.text for exhibit in report.exhibits}
    assert "25,000 =   24,500 + 500" in shown["what the receipts in S3 say"]
    assert json.loads(shown["a dead letter's message in the queue"]) == world.found.letters[0]
    assert world.found.keys[0] in report.written[0]


def _found(**parts: Any) -> Callable[[World], World]:
    return lambda world: replace(world, found=replace(world.found, **parts))


def _replayed(**parts: Any) -> Callable[[World], World]:
    return lambda world: replace(world, replayed=replace(world.replayed, **parts))


def _receipt_says(**values: Any) -> Callable[[World], World]:
    def change(world: World) -> World:
        receipts = copy.deepcopy(world.found.receipts)
        receipts["receipts/0"] |= values
        return _found(receipts=receipts)(world)

    return change


def _first_batch(**values: Any) -> Callable[[World], World]:
    def change(world: World) -> World:
        key, batch = next(iter(world.replayed.taken.items()))
        return _replayed(taken={**world.replayed.taken, key: {**batch, **values}})(world)

    return change


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        (_found(runs={}), "one run of its own"),
        (lambda world: _found(runs={**world.found.runs, "manual__1": "success"})(world), "one run of its own"),
        (lambda world: _found(runs=dict.fromkeys(world.found.runs, "failed"))(world), "one run of its own"),
        (_receipt_says(records_accepted=19_999), "adds up"),
        (_receipt_says(records_read=19_999, records_accepted=19_999), "adds up"),
        (_receipt_says(batches_accepted=39), "adds up"),
        (_receipt_says(invalid_bytes=1), "adds up"),
        (_receipt_says(stored_as="failed/x"), "moved to processed/"),
        (lambda world: _found(keys=[*world.found.keys, "processing/x"])(world), "moved to processed/"),
        (lambda world: _found(taken=world.replayed.taken)(world), "was refused"),
        (lambda world: _found(letters=world.found.letters * 2, bodies=world.found.bodies * 2)(world), "no record"),
        (lambda world: _found(letters=[{**world.found.letters[0], "error": REFUSED_TEXT}])(world), "no record"),
        (_found(bodies=[b"{}"]), "no record"),
        (lambda world: _replayed(sns=world.replayed.sns * 2)(world), "through SNS"),
        (_replayed(slack=[]), "through Slack"),
        (_replayed(waiting=1), "left the queue empty"),
        (lambda world: _replayed(summary={**world.replayed.summary, "accepted": 0})(world), "left the queue empty"),
        (_first_batch(times=2), "exactly once"),
        (_first_batch(sha256="0" * 64), "exactly once"),
        (lambda world: _replayed(taken=world.found.taken)(world), "exactly once"),
        (lambda world: replace(world, most_calls=51), "calls at once"),
        (lambda world: replace(world, most_calls=0), "calls at once"),
        (lambda world: replace(world, active=["scheduled__1"]), "no run is left"),
    ],
)
def test_what_is_missing_is_told(world: World, change: Callable[[World], World], claim: str) -> None:
    failed = [check.claim for check in change(world).report().checks if not check.passed]
    assert len(failed) == 1
    assert claim in failed[0]


def test_nothing_at_all_is_told_as_well(world: World) -> None:
    nothing = Found({}, [], {}, [], [], {})
    summary = {"received": 0, "accepted": 0, "failed": 0, "unreadable": 0, "dry_run": False}
    report = replace(world, found=nothing, replayed=Replayed("manual__1", "success", summary, 0, {}, [], [])).report()
    assert not report.passed
    assert report.to_document()["state"] == "success"


class Airflow:
    """Its runs come and end one poll after the other."""

    def __init__(self, *polls: dict[str, str]) -> None:
        self._polls = list(polls)
        self.ended: list[tuple[str, str]] = []

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        now = self._polls.pop(0) if len(self._polls) > 1 else self._polls[0]
        return [{"dag_id": dag_id, "dag_run_id": run, "state": state} for run, state in now.items()]

    def end(self, dag_id: str, run_id: str) -> None:
        self.ended.append((dag_id, run_id))


def test_all_runs_are_waited_for_also_those_that_have_not_begun() -> None:
    polls = [{}, {"a": "running"}, {"a": "success", "b": "queued"}, {"a": "success", "b": "failed"}]
    airflow, seen = Airflow(*polls), []
    wait_for_runs(cast(AirflowApi, airflow), ["a", "b"], on_poll=lambda: seen.append(1), poll=0.0)
    assert len(seen) == len(polls)
    assert [run["state"] for run in airflow.runs(INGEST_DAG_ID)] == ["success", "failed"]


def test_only_the_watchers_waiting_round_is_ended() -> None:
    airflow = Airflow({"first": "success", "second": "failed", "third": "running"})
    end_watch(cast(AirflowApi, airflow))
    assert airflow.ended == [(WATCH_DAG_ID, "third")]
