import json
import logging
from itertools import batched
from typing import Any

import pytest

from airflow_ext.ids import XComKey
from airflow_ext.tasks import call_details_watch
from airflow_ext.tasks.call_details_watch import MAX_RUNS
from include.call_details.alerts import CLAIM_TASK
from include.call_details.keys import processing_key, round_key, run_id
from include.call_details.models import FileVersion
from include.call_details.watcher import PATIENCE_SECONDS, SHARED_FROM
from include.errors import RetryableFailuresError, SettingsError, WorkFailedError
from tests.dags.call_details import claim_files, ingest, ingest_run, plan, reconcile, watch_run
from tests.worlds.airflow import FakeRun
from tests.worlds.call_details import CallDetailsWorld
from tests.worlds.s3 import BUCKET, s3_error

KEYS = ["incoming/a +ä.txt", "incoming/b%20.txt"]


world = CallDetailsWorld.fixture()


def drop(world: CallDetailsWorld, *keys: str) -> list[FileVersion]:
    return [FileVersion(BUCKET, key, world.s3.drop(key, b"1\n2\n3\n")) for key in keys]


def start_of(file: FileVersion, *, anew: bool = False) -> dict[str, Any]:
    return {
        "trigger_run_id": run_id(file),
        "conf": {"bucket": BUCKET, "key": file.key, "etag": file.etag, "force": False},
        "note": None,
        "reset_dag_run": anew,
    }


def refuse(world: CallDetailsWorld, key: str) -> None:
    """Let S3 refuse to copy one file."""

    def fail(request: dict[str, Any]) -> None:
        if request["CopySource"]["Key"] == key:
            raise s3_error("AccessDenied", "CopyObject")

    world.s3.before["CopyObject"] = fail


def test_each_file_gets_a_run_of_its_name(world: CallDetailsWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    files = drop(world, *KEYS)
    run = watch_run()
    assert claim_files(run) == [start_of(file) for file in files]
    for file in files:
        told = f"file {file.key} claimed for run {run_id(file)}: 6 bytes, ETag {file.etag}, version "
        assert [message for message in caplog.messages if message.startswith(told)]
    assert run.pushed(CLAIM_TASK, XComKey.NOTE) == [
        "**2 files taken in**", "", "- what to do: nothing",
        "- more: [operations page](http://localhost:8080/plugin/operations/files)", "- left: 0",
    ]  # fmt: skip
    assert world.s3.present("incoming/") == []
    assert world.s3.present("processing/") == sorted(map(processing_key, files))
    counts = {"FailedRuns": 0.0, "TakenFiles": 2.0, "LeftFiles": 0.0, "ScheduledRuns": 1.0}
    assert world.metrics == [("call_details_watch", counts)]


def test_key_that_cannot_be_named_is_alerted_and_the_other_file_gets_its_run(world: CallDetailsWorld) -> None:
    (good,) = drop(world, KEYS[0])
    drop(world, "incoming/bad\x01key.txt")
    assert claim_files(watch_run()) == [start_of(good)]
    assert world.wire.sns == [], "not at once"
    world.time.now += PATIENCE_SECONDS
    later = watch_run()
    later.other_runs[run_id(good)] = "running"
    with pytest.raises(RetryableFailuresError):
        claim_files(later)
    (post,) = world.wire.slack
    assert "file incoming/bad\\x01key.txt" in post["text"]


@pytest.mark.parametrize("sns_is_down", [False, True])
def test_alert_that_a_channel_did_not_take_waits_for_it_and_is_made_once(
    sns_is_down: bool, world: CallDetailsWorld
) -> None:
    drop(world, "incoming/bad\x01key.txt")
    with pytest.raises(RetryableFailuresError):
        claim_files(watch_run())
    world.time.now += PATIENCE_SECONDS
    world.wire.slack_is_down, world.wire.sns_is_down = True, sns_is_down
    for _ in range(2):
        run = watch_run()
        with pytest.raises(RetryableFailuresError):
            claim_files(run)
    assert len(world.wire.sns) == (not sns_is_down)
    waiting = [key.split("/")[2] for key in world.s3.present("alerts/undelivered/")]
    assert waiting == (["slack", "sns"] if sns_is_down else ["slack"])
    assert run.pushed(CLAIM_TASK, XComKey.ALERTED) is None, "it says nothing of a run that fails"


def test_key_with_more_versions_than_airflow_maps_gets_all_its_runs(world: CallDetailsWorld) -> None:
    files = [FileVersion(BUCKET, KEYS[0], world.s3.drop(KEYS[0], b"%d" % number)) for number in range(MAX_RUNS + 1)]
    run = watch_run()
    with run.task(CLAIM_TASK) as context:
        assert call_details_watch.claim_files(context) == list(range(MAX_RUNS))
    starts = json.loads(world.s3.body(round_key(run.run_id)))
    later = watch_run()
    later.other_runs = {start["trigger_run_id"]: "running" for start in starts}
    (start,) = claim_files(later)
    assert {start["trigger_run_id"], *later.other_runs} == {run_id(file) for file in files}


def test_round_without_files_is_a_good_one(world: CallDetailsWorld) -> None:
    drop(world, "incoming/folder/")
    assert claim_files(watch_run()) == []
    assert world.metrics[0][1]["ScheduledRuns"] == 1.0, "or the alarm on missing rounds would ring all night"


def test_claim_that_never_got_its_run_is_taken_up_at_once(world: CallDetailsWorld) -> None:
    (file,) = drop(world, KEYS[0])
    claim_files(watch_run())
    assert claim_files(watch_run()) == [start_of(file)]
    started = watch_run()
    for state in ("queued", "running"):
        started.other_runs[run_id(file)] = state
        assert claim_files(started) == [], "it has its run"


def test_one_missing_run_among_many_is_found(world: CallDetailsWorld) -> None:
    files: list[FileVersion] = []
    for some in batched(range(90), SHARED_FROM - 1):
        files += drop(world, *(f"incoming/{number:03}.txt" for number in some))
        claim_files(watch_run())
    later = watch_run()
    later.other_runs |= {run_id(file): "running" for file in files if file is not files[70]}
    assert claim_files(later) == [start_of(files[70])]


def test_file_that_cannot_be_taken_does_not_keep_others_from_their_runs(world: CallDetailsWorld) -> None:
    refused, fine = drop(world, *KEYS)
    refuse(world, refused.key)
    run = watch_run()
    # Its claim is there, and its run finds the file where it lies.
    assert claim_files(run) == [start_of(fine), start_of(refused)]
    run.other_runs |= {run_id(refused): "running", run_id(fine): "running"}
    drop(world, "incoming/c.txt")
    (start,) = claim_files(run)
    assert start["conf"]["key"] == "incoming/c.txt"


def left_over(world: CallDetailsWorld) -> FakeRun:
    """A round that has nothing but a file that cannot be taken, whose run has failed over it."""
    (file,) = drop(world, KEYS[0])
    refuse(world, file.key)
    run = watch_run()
    (start,) = claim_files(run)
    with pytest.raises(WorkFailedError):
        ingest(ingest_run(**start["conf"], run_id=start["trigger_run_id"]))
    run.other_runs[run_id(file)] = "failed"
    world.cloudwatch.published.clear()
    world.wire.sns.clear()
    return run


def test_round_of_nothing_but_files_that_cannot_be_taken_pauses_and_ends_well(world: CallDetailsWorld) -> None:
    run = left_over(world)
    for number in range(1, 6):
        with pytest.raises(RetryableFailuresError, match=r"files that stay where they were dropped: 1: .*AccessDenied"):
            claim_files(run, try_number=number)
    assert claim_files(run, try_number=6) == []
    values = {"FailedRuns": 0.0, "TakenFiles": 0.0, "LeftFiles": 1.0, "ScheduledRuns": 1.0}
    assert world.metrics == [("call_details_watch", values)] * 6, "or the alarm on missing rounds would ring"
    drop(world, KEYS[1])
    assert len(claim_files(run)) == 1


def test_file_that_cannot_be_taken_is_reported_once_however_many_rounds_find_it(world: CallDetailsWorld) -> None:
    run = left_over(world)
    for _ in range(4):
        assert claim_files(run, try_number=6) == []
        world.time.now += PATIENCE_SECONDS
    assert len(world.wire.sns) == 1
    text = world.wire.slack[-1]["text"]
    assert KEYS[0] in text
    assert "AccessDenied" in text


def test_file_in_the_hands_of_a_run_is_waited_for_in_silence(world: CallDetailsWorld) -> None:
    drop(world, KEYS[0])
    plan(ingest_run(KEYS[0]))
    drop(world, KEYS[0])
    for _ in range(3):
        with pytest.raises(RetryableFailuresError, match="run manual__1 works on"):
            claim_files(watch_run())
        world.time.now += PATIENCE_SECONDS
    assert world.wire.sns == []


def test_file_whose_run_failed_is_taken_up_when_it_is_delivered_again(world: CallDetailsWorld) -> None:
    (file,) = drop(world, KEYS[0])
    run = watch_run()
    (start,) = claim_files(run)
    first = ingest_run(**start["conf"], run_id=start["trigger_run_id"])
    with pytest.raises(WorkFailedError):
        reconcile(planned(first))
    run.other_runs[run_id(file)] = "failed"
    assert claim_files(run) == [], "people were told"
    drop(world, KEYS[0])
    assert claim_files(run) == [start_of(file, anew=True)]
    # The next round comes before the run has set to work.
    run.other_runs[run_id(file)] = "queued"
    assert claim_files(run) == []
    assert ingest(first)["outcome"] == "processed"


@pytest.mark.parametrize("owner", ["the watcher's", "manual__7"])
def test_run_whose_claim_lapsed_is_started_once_and_no_more(owner: str, world: CallDetailsWorld) -> None:
    (file,) = drop(world, KEYS[0])
    run = watch_run()
    if owner == "manual__7":
        plan(ingest_run(KEYS[0], run_id=owner))
    else:
        (start,) = claim_files(run)
        plan(ingest_run(**start["conf"], run_id=start["trigger_run_id"]))
    world.table.items[file.partition, "claim"]["leased_until_ms"] = {"N": "1"}
    assert claim_files(run) == [start_of(file)]
    run.other_runs[run_id(file)] = "failed"
    assert claim_files(run) == [], "people were told"


def test_run_that_waits_is_not_started_anew_because_another_has_ended(world: CallDetailsWorld) -> None:
    ended, waiting = drop(world, *KEYS)
    run = watch_run()
    start, _ = claim_files(run)
    with pytest.raises(WorkFailedError):
        reconcile(planned(ingest_run(**start["conf"], run_id=start["trigger_run_id"])))
    run.other_runs |= {run_id(ended): "failed", run_id(waiting): "queued"}
    drop(world, *KEYS)
    assert claim_files(run) == [start_of(ended, anew=True), start_of(waiting)]


def test_round_that_dies_before_it_started_the_run_anew_is_made_good(world: CallDetailsWorld) -> None:
    (file,) = drop(world, KEYS[0])
    run = watch_run()
    (start,) = claim_files(run)
    with pytest.raises(WorkFailedError):
        reconcile(planned(ingest_run(**start["conf"], run_id=start["trigger_run_id"])))
    run.other_runs[run_id(file)] = "failed"
    drop(world, KEYS[0])
    claim_files(run)
    assert claim_files(run) == [start_of(file, anew=True)]


def planned(run: FakeRun) -> FakeRun:
    """The run after its first task."""
    plan(run)
    return run


@pytest.mark.parametrize("by", ["delivery", "hand"])
def test_file_that_could_not_be_read_is_tried_again(by: str, world: CallDetailsWorld) -> None:
    key = "incoming/x.gz"
    file = FileVersion(BUCKET, key, world.s3.drop(key, b"\x1f\x8b damaged"))
    run = watch_run()
    (start,) = claim_files(run)
    with pytest.raises(WorkFailedError, match="ended unreadable"):
        ingest(ingest_run(**start["conf"], run_id=start["trigger_run_id"]))
    run.other_runs[run_id(file)] = "failed"
    if by == "delivery":
        world.s3.drop(key, b"\x1f\x8b damaged")
        assert claim_files(run) == [start_of(file, anew=True)]
    again = ingest_run(**start["conf"], run_id=start["trigger_run_id"] if by == "delivery" else "manual__2")
    with pytest.raises(WorkFailedError, match="ended unreadable"):
        ingest(again)
    assert len(world.wire.sns) == 2
    assert len(world.s3.present("failed/")) == 1
    assert world.s3.present("processing/") + world.s3.present("incoming/") == []


@pytest.mark.parametrize("name", ["ingest_bucket", "ingest_ledger_table", "call_details_dlq_url"])
def test_missing_setting_is_named(name: str, world: CallDetailsWorld) -> None:
    world.change_settings(**{name: ""})
    with pytest.raises(SettingsError, match=f"{name} missing"):
        claim_files(watch_run())


def test_file_beside_the_prefix_is_reported_once_and_holds_up_nothing(world: CallDetailsWorld) -> None:
    drop(world, "elsewhere/a.txt")
    run = watch_run()
    for _ in range(4):
        assert claim_files(run) == []
        world.time.now += PATIENCE_SECONDS
    (message,) = world.wire.sns
    assert message["Subject"] == "[WARNING] call_details_watch: files that were dropped where none are taken: 1"
    assert "file elsewhere/a.txt" in message["Message"]
    assert "it is not under incoming/: move it there, or change the setting incoming_prefix" in message["Message"]
    drop(world, "b.txt")
    claim_files(run)
    world.time.now += PATIENCE_SECONDS
    claim_files(run)
    assert ["b.txt" in message["Message"] for message in world.wire.sns] == [False, True]
    assert not any("elsewhere" in message["Message"] for message in world.wire.sns[1:])


def test_listing_beside_the_prefix_that_is_refused_costs_no_file_its_run(world: CallDetailsWorld) -> None:
    (file,) = drop(world, KEYS[0])

    def refuse(request: dict[str, Any]) -> None:
        if request["Prefix"] != "incoming/":
            raise s3_error("AccessDenied", "ListObjectsV2")

    world.s3.before["ListObjectsV2"] = refuse
    assert claim_files(watch_run()) == [start_of(file)]
