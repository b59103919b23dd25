from __future__ import annotations

from typing import Any

import pytest

from airflow_ext.ids import XComKey
from include.errors import FilesLeftError, SettingsError, StorageUnavailableError
from include.ingest.claim import FileVersion
from include.ingest.identity import run_id
from include.ingest.keys import processing_key
from tests.dags.ingest import claim_files, ingest, ingest_run, watch_run
from tests.fakes.ingest import IngestWorld
from tests.fakes.ingest_bucket import BUCKET
from tests.fakes.s3 import s3_error

KEYS = ["incoming/a +ä.txt", "incoming/b%20.txt"]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> IngestWorld:
    world = IngestWorld()
    world.attach(monkeypatch)
    return world


def drop(world: IngestWorld, *keys: str) -> list[FileVersion]:
    return [FileVersion(BUCKET, key, world.s3.drop(key, b"1\n2\n3\n")) for key in keys]


def start_of(file: FileVersion) -> dict[str, Any]:
    return {
        "trigger_run_id": run_id(file),
        "conf": {"bucket": BUCKET, "key": file.key, "etag": file.etag, "force": False},
    }


def refuse(world: IngestWorld, key: str) -> None:
    """Let S3 refuse to copy one file."""

    def fail(request: dict[str, Any]) -> None:
        if request["CopySource"]["Key"] == key:
            raise s3_error("AccessDenied", "CopyObject")

    world.s3.before["CopyObject"] = fail


def test_each_file_gets_a_run_of_its_name(world: IngestWorld) -> None:
    files = drop(world, *KEYS)
    assert claim_files(watch_run()) == [start_of(file) for file in files]
    assert world.s3.present() == sorted(map(processing_key, files))
    counts = {"FailedRuns": 0.0, "TakenFiles": 2.0, "LeftFiles": 0.0, "ScheduledRuns": 1.0}
    assert world.metrics == [("call_details_watch", counts)]


def test_round_without_files_is_a_good_one(world: IngestWorld) -> None:
    drop(world, "incoming/folder/")
    assert claim_files(watch_run()) == []
    assert world.metrics[0][1]["ScheduledRuns"] == 1.0, "or the alarm on missing rounds would ring all night"


def test_run_that_the_watcher_starts_takes_over_the_claim_it_made(world: IngestWorld) -> None:
    (file,) = drop(world, KEYS[0])
    (start,) = claim_files(watch_run())
    summary = ingest(ingest_run(**start["conf"], run_id=start["trigger_run_id"]))
    assert (summary["outcome"], summary["etag"]) == ("processed", file.etag)


def test_claim_that_never_got_its_run_is_taken_up_at_once(world: IngestWorld) -> None:
    (file,) = drop(world, KEYS[0])
    claim_files(watch_run())
    assert claim_files(watch_run()) == [start_of(file)]
    started = watch_run()
    started.other_runs.add(run_id(file))
    assert claim_files(started) == [], "it has its run, whatever became of that"


def test_one_missing_run_among_many_is_found(world: IngestWorld) -> None:
    files = drop(world, *(f"incoming/{number:03}.txt" for number in range(90)))
    claim_files(watch_run())
    later = watch_run()
    later.other_runs.update(run_id(file) for file in files if file is not files[70])
    assert claim_files(later) == [start_of(files[70])]


def test_file_that_cannot_be_taken_does_not_keep_others_from_their_runs(world: IngestWorld) -> None:
    refused, fine = drop(world, *KEYS)
    refuse(world, refused.key)
    run = watch_run()
    # Its claim is there, and its run finds the file where it lies.
    assert claim_files(run) == [start_of(fine), start_of(refused)]
    run.other_runs |= {run_id(refused), run_id(fine)}
    drop(world, "incoming/c.txt")
    (start,) = claim_files(run)
    assert start["conf"]["key"] == "incoming/c.txt"


def test_round_of_nothing_but_files_that_cannot_be_taken_is_retried(world: IngestWorld) -> None:
    (file,) = drop(world, KEYS[0])
    refuse(world, file.key)
    run = watch_run()
    run.other_runs.add(run_id(file))
    with pytest.raises(FilesLeftError, match=r"1 files stay under incoming/.*AccessDenied"):
        claim_files(run)
    assert "FilesLeftError" in run.pushed("claim_files", XComKey.FAILURE), "for the alert of the run"
    assert world.metrics == []
    drop(world, KEYS[1])
    assert len(claim_files(run)) == 1


@pytest.mark.parametrize("name", ["ingest_bucket", "ingest_ledger_table", "call_details_dlq_url"])
def test_missing_setting_is_named(name: str, world: IngestWorld) -> None:
    world.change_settings(**{name: ""})
    with pytest.raises(SettingsError, match=f"{name} missing"):
        claim_files(watch_run())


def test_bucket_that_cannot_be_listed_is_a_matter_of_a_retry(world: IngestWorld) -> None:
    def fail(request: dict[str, Any]) -> None:
        raise s3_error("SlowDown", "ListObjectsV2")

    world.s3.before["ListObjectsV2"] = fail
    with pytest.raises(StorageUnavailableError):
        claim_files(watch_run())
