"""Many small files that wait together share a run, and each is accounted for by itself."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import time_machine

from airflow_ext.ids import XComKey
from include.call_details.keys import idempotency_key, processing_key, receipt_key, run_id, shared_key
from include.call_details.models import CHUNK_BYTES, TASKS_AT_ONCE, Chunk, FileVersion, Plan
from include.call_details.shared_run import Member, SharedPlan
from include.call_details.watcher import SHARED_FROM
from include.errors import ApiUnavailableError, PipelineError, RetryableFailuresError, RunRefusedError, WorkFailedError
from tests.dags.call_details import (
    LAST_TRY,
    RECONCILE_TASK,
    claim_files,
    ingest,
    ingest_run,
    plan,
    post_chunk,
    reconcile,
    reconcile_fails,
    replay_run,
    watch_run,
)
from tests.dags.call_details import replay as replay_dead_letters
from tests.worlds.airflow import FakeRun
from tests.worlds.call_details import CallDetailsWorld
from tests.worlds.dynamodb import FakeLedgerTable, table_error
from tests.worlds.s3 import BUCKET, raising, s3_error

NUMBER = SHARED_FROM + 2
BAD = b"\x1f\x8b damaged"


world = CallDetailsWorld.fixture()


def drop(world: CallDetailsWorld, number: int = NUMBER, **bodies: bytes) -> list[FileVersion]:
    """Files of three records, all different, but for those whose bodies a test tells by their names."""
    files = []
    for index in range(number):
        name = f"f{index:03}"
        body = bodies.get(name, b'{"file":%d}\n\n"two"\nthree\n' % index)
        files.append(FileVersion(BUCKET, f"incoming/{name} ä.txt", world.s3.drop(f"incoming/{name} ä.txt", body)))
    return files


def shared_run(start: dict[str, Any]) -> FakeRun:
    """The run that the watcher starts."""
    return ingest_run(**start["conf"], run_id=start["trigger_run_id"])


def started() -> FakeRun:
    """The one run that a round of the watcher starts."""
    return shared_run(*claim_files(watch_run()))


def receipts(world: CallDetailsWorld, files: list[FileVersion]) -> list[dict[str, Any]]:
    return [json.loads(world.s3.body(receipt_key(file))) for file in files]


def outcomes(world: CallDetailsWorld, files: list[FileVersion]) -> Counter[str]:
    return Counter(receipt["outcome"] for receipt in receipts(world, files))


def keys_of(*files: FileVersion) -> list[str]:
    return [idempotency_key(file, batch) for file in files for batch in range(2)]


def test_small_files_that_wait_together_share_one_run_that_names_them(world: CallDetailsWorld) -> None:
    files = drop(world)
    (start,) = claim_files(watch_run())
    name, key = start["trigger_run_id"], shared_key(start["trigger_run_id"])
    assert name.startswith(f"files__{NUMBER}_from_f000_.txt__")
    assert start["conf"] == {"bucket": BUCKET, "key": key, "etag": None, "force": False}
    assert start["note"].startswith(f"{NUMBER} files, listed in s3://{BUCKET}/{key}: incoming/f000 ä.txt, ")
    assert json.loads(world.s3.body(key)) == [[file.key, file.etag] for file in files]
    run = shared_run(start)
    summary = ingest(run)
    assert (summary["files"], summary["outcomes"], summary["failed"]) == (NUMBER, {"processed": NUMBER}, [])
    for file, receipt in zip(files, receipts(world, files), strict=True):
        assert (receipt["key"], receipt["run_id"], receipt["records_accepted"]) == (file.key, name, 3)
        assert world.s3.present(f"processed/{receipt['stored_as'].removeprefix('processed/')}")
    assert world.api.keys == Counter(keys_of(*files))
    lines = [record["lineNumber"] for batch in world.posted() for record in batch if "lineNumber" in record]
    assert lines == [3] * NUMBER, "each file counts its own lines"
    assert world.s3.present("incoming/") + world.s3.present("processing/") == []
    assert (world.wire.sns, world.metrics[-1][1]["AcceptedRecords"]) == ([], 3.0 * NUMBER)
    assert len(world.api.login_requests) == 1


def test_few_files_have_a_run_of_their_own_each(world: CallDetailsWorld) -> None:
    files = drop(world, SHARED_FROM - 1)
    assert [start["trigger_run_id"] for start in claim_files(watch_run())] == [run_id(file) for file in files]


def test_bad_file_costs_only_itself_and_has_its_own_alert(world: CallDetailsWorld) -> None:
    files = drop(world, f003=BAD, f007=b"Z\xfcrich\n")
    world.api.answers[idempotency_key(files[5], 1)] = [httpx.Response(422)]
    run = started()
    with pytest.raises(WorkFailedError, match=rf"1 of {NUMBER} files failed, such as incoming/f003 ä\.txt"):
        ingest(run)
    expected = {"processed": NUMBER - 2, "processed with dead letters": 1, "unreadable": 1}
    assert outcomes(world, files) == expected
    assert run.pushed("reconcile", "return_value")["outcomes"] == expected
    subjects = sorted(message["Subject"] for message in world.wire.sns)
    assert subjects == [
        "[ERROR] call_details_ingest: nothing of incoming/f003 ?.txt was posted",
        "[WARNING] call_details_ingest: 1 bytes of incoming/f007 ?.txt are not valid UTF-8",
        "[WARNING] call_details_ingest: 1 of 2 batches of incoming/f005 ?.txt could not be delivered",
    ]
    assert len(world.s3.present("failed/")) == 1
    assert len(world.sqs.bodies) == 1
    world.api.answers.clear()
    replay_dead_letters(replay_run())
    assert world.sqs.bodies == []


def test_file_that_s3_refuses_to_move_on_costs_no_other_its_receipt_and_alert(world: CallDetailsWorld) -> None:
    files = drop(world)
    (start,) = claim_files(watch_run())
    world.api.answers[idempotency_key(files[5], 1)] = [httpx.Response(422)]

    def refuse(request: dict[str, Any]) -> None:
        if request["CopySource"]["Key"] == processing_key(files[3]):
            raise s3_error("AccessDenied", "CopyObject")

    world.s3.before["CopyObject"] = refuse
    with pytest.raises(WorkFailedError, match=rf"1 of {NUMBER} files failed, such as incoming/f003 ä\.txt"):
        ingest(run := shared_run(start))
    dead, refused = sorted((message["Subject"], message["Message"]) for message in world.wire.sns)[::-1]
    assert dead[0].startswith("[WARNING] call_details_ingest: 1 of 2 batches of incoming/f005")
    assert "in plan: StorageRefusedError: cannot move" in refused[1]
    assert world.s3.present("processing/") == [processing_key(files[3])]
    world.s3.before.clear()
    assert reconcile(run)["outcomes"] == {"processed": NUMBER - 1, "processed with dead letters": 1}
    assert world.s3.present("processing/") == []


class KilledError(Exception):
    """A task dies: it calls nothing any more."""


@dataclass
class Killing:
    """Kills whoever makes the call of that number, and whoever calls after it, until it is called off."""

    left: int = -1
    dead: bool = False

    def call(self, *arguments: Any) -> None:
        """One call of S3 or DynamoDB."""
        self.left -= 1
        self.dead = self.dead or self.left == 0
        if self.dead:
            raise KilledError


class KillingTable(FakeLedgerTable):
    """The ledger; what concerns permits kills nobody, as its task in the background could not die alone."""

    def __init__(self, killing: Killing) -> None:
        super().__init__()
        self._killing = killing

    def put_item(self, **request: Any) -> dict[str, Any]:
        if request["Item"]["pk"] != {"S": "permits"}:
            self._killing.call()
        return super().put_item(**request)

    def delete_item(self, **request: Any) -> dict[str, Any]:
        self._killing.call()
        return super().delete_item(**request)


@pytest.mark.parametrize("at", [1, 2, 3, 8, *range(15, 260, 17)])
def test_whichever_call_a_task_dies_at_its_retry_accounts_for_every_file(at: int) -> None:
    killing = Killing()
    with CallDetailsWorld(table=KillingTable(killing)).attached() as world:
        files = drop(world)
        for operation in ("PutObject", "CopyObject", "DeleteObject", "GetObject", "ListObjectVersions"):
            world.s3.before[operation] = killing.call
        killing.left = at
        accounts_for_every_file(world, killing, files)


def accounts_for_every_file(world: CallDetailsWorld, killing: Killing, files: list[FileVersion]) -> None:
    """Two rounds and their runs, each task of which is repeated once if it dies."""
    watch = watch_run()

    def attempt(step: Any) -> Any:
        for _ in range(2):
            try:
                return step()
            except KilledError:
                killing.dead = False
                # For whose lease the retry would wait.
                world.table.items.pop(("permits", "call-details"), None)
        raise AssertionError("killed twice")

    runs: dict[str, FakeRun] = {}
    for start in attempt(lambda: claim_files(watch)):
        runs[start["trigger_run_id"]] = shared_run(start)
        watch.other_runs[start["trigger_run_id"]] = "running"
    # What the round left is for the next one.
    for start in attempt(lambda: claim_files(watch, try_number=6)):
        runs[start["trigger_run_id"]] = shared_run(start)
        watch.other_runs[start["trigger_run_id"]] = "running"
    for run in runs.values():
        for index in attempt(lambda run=run: plan(run)):
            attempt(lambda run=run, index=index: post_chunk(run, index))
        attempt(lambda run=run: reconcile(run))
        watch.other_runs[run.run_id] = "success"
    killing.left = -1
    assert claim_files(watch, try_number=6) == []
    assert outcomes(world, files) == {"processed": NUMBER}
    assert set(world.api.keys) == set(keys_of(*files))
    bodies = {(request.headers["Idempotency-Key"], request.content) for request in world.api.posted}
    assert len(bodies) == 2 * NUMBER, "the same batch is the same body, always"
    assert len(world.s3.present("processed/")) == NUMBER
    assert world.s3.present("incoming/") + world.s3.present("processing/") == []
    assert world.wire.sns == []


def test_cleared_run_posts_nothing_again_and_alerts_nobody_twice(world: CallDetailsWorld) -> None:
    files = drop(world)
    world.api.answers[idempotency_key(files[5], 1)] = [httpx.Response(422)]
    run = started()
    ingest(run)
    assert ingest(run)["outcomes"] == {"ingested before": NUMBER}
    assert (len(world.wire.sns), len(world.api.posted)) == (1, 2 * NUMBER)


def test_force_posts_all_files_of_a_list_again_under_the_same_keys(world: CallDetailsWorld) -> None:
    files = drop(world)
    (start,) = claim_files(watch_run())
    with time_machine.travel(datetime(2026, 3, 8, 23, 59, 59, tzinfo=UTC), tick=False):
        ingest(shared_run(start))
    forced = ingest_run(**start["conf"] | {"force": True}, run_id="manual__2")
    assert ingest(forced)["outcomes"] == {"processed": NUMBER}
    # Where they lie, whatever day it is by now.
    assert any("/files?day=2026-03-08)" in line for line in forced.pushed(RECONCILE_TASK, XComKey.NOTE))
    assert world.api.keys == Counter(2 * keys_of(*files))
    bodies = {(request.headers["Idempotency-Key"], request.content) for request in world.api.posted}
    assert len(bodies) == 2 * NUMBER, "the same batch is the same body, always"


def test_file_of_several_chunks_in_a_list_is_accounted_for(world: CallDetailsWorld) -> None:
    world.change_settings(max_records_per_batch=1)
    lines = 2001
    (file,) = drop(world, 1, f000=b"1\n" * lines)
    world.s3.drop("plans/shared/by-hand.json", json.dumps([[file.key, file.etag]]).encode())
    summary = ingest(ingest_run("plans/shared/by-hand.json"))
    assert (summary["outcomes"], summary["records_accepted"]) == ({"processed": 1}, lines)
    (receipt,) = receipts(world, [file])
    assert [each["records_accepted"] for each in receipt["ranges"]] == [2000, 1]


def test_files_of_a_shared_run_are_divided_among_tasks_in_their_order() -> None:
    def member(number: int, size: int = 1000) -> Member:
        file, chunk = FileVersion(BUCKET, f"incoming/{number}", "e"), Chunk(0, 0, size, 1, 1, 0, 1)
        plan = Plan(file, file.key, "e", size, False, 500, "", 1, size, 0, (chunk,))
        return Member(file, plan)

    members = tuple(map(member, range(400)))
    slices = SharedPlan("plans/shared/x.json", members).slices
    assert [len(each) for each in slices] == [134, 133, 133]
    assert tuple(each for some in slices for each in some) == members
    large = SharedPlan("plans/shared/x.json", (*members[:10], member(10, CHUNK_BYTES), *members[11:20])).slices
    assert [len(each) for each in large] == [11, 9]
    assert len(SharedPlan("plans/shared/x.json", tuple(map(member, range(4000)))).slices) == TASKS_AT_ONCE


def test_list_that_is_not_there_is_refused(world: CallDetailsWorld) -> None:
    run = ingest_run("plans/shared/absent.json")
    with pytest.raises(RunRefusedError, match=r"there is no list 'plans/shared/absent\.json'"):
        ingest(run)
    assert world.wire.sns == []


def test_api_that_is_unavailable_costs_no_dead_letter_and_the_retry_does_the_rest(world: CallDetailsWorld) -> None:
    files = drop(world)
    run = started()
    assert plan(run) == [0]
    world.api.answers = {key: [httpx.Response(503)] for key in keys_of(*files)}
    with pytest.raises(ApiUnavailableError):
        post_chunk(run, 0)
    world.api.answers.clear()
    assert post_chunk(run, 0) == {"files": NUMBER}
    assert reconcile(run)["outcomes"] == {"processed": NUMBER}
    assert world.sqs.bodies == []


def test_api_that_is_unavailable_to_the_last_try_costs_dead_letters_of_every_file(world: CallDetailsWorld) -> None:
    files = drop(world)
    run = started()
    plan(run)
    world.api.answers = {key: [httpx.Response(503)] for key in keys_of(*files)}
    assert post_chunk(run, 0, try_number=LAST_TRY) == {"files": NUMBER}
    assert reconcile(run)["outcomes"] == {"processed with dead letters": NUMBER}


def test_dead_letter_that_cannot_be_kept_costs_its_file_alone(world: CallDetailsWorld) -> None:
    files = drop(world)
    (start,) = claim_files(watch_run())
    run = shared_run(start)
    plan(run)
    refused = idempotency_key(files[0], 0)
    world.api.answers[refused] = [httpx.Response(422)]

    def fail(request: dict[str, Any]) -> None:
        if request["Key"].startswith("dead-letter/"):
            raise s3_error("SlowDown")

    world.s3.before["PutObject"] = fail
    with pytest.raises(RetryableFailuresError, match=rf"1 of {NUMBER} files could not be posted: incoming/f000 ä\.txt"):
        post_chunk(run, 0)
    world.s3.before.clear()
    assert post_chunk(run, 0) == {"files": NUMBER}
    assert world.api.keys == Counter([*keys_of(*files), refused]), "the other files were posted beside it"
    assert reconcile(run)["outcomes"] == {"processed": NUMBER - 1, "processed with dead letters": 1}


def test_file_that_is_lost_for_good_does_not_keep_another_from_its_retry(world: CallDetailsWorld) -> None:
    files = drop(world)
    run = started()
    plan(run)
    world.s3.delete(processing_key(files[1]))
    world.api.answers[idempotency_key(files[0], 0)] = [httpx.Response(422)]
    world.sqs.before["send_message"] = raising(table_error("RequestThrottled"))
    with pytest.raises(RetryableFailuresError, match=rf"2 of {NUMBER} files could not be posted"):
        post_chunk(run, 0)
    world.sqs.before.clear()
    with pytest.raises(WorkFailedError, match=rf"1 of {NUMBER} files could not be posted"):
        post_chunk(run, 0)
    reconcile_fails(run)
    assert outcomes(world, files) == {"processed": NUMBER - 2, "processed with dead letters": 1, "incomplete": 1}


def test_task_that_gave_up_leaves_an_alert_for_each_file_and_clearing_does_the_rest(world: CallDetailsWorld) -> None:
    files = drop(world)
    run = started()
    plan(run)
    reconcile_fails(run, rf"{NUMBER} of {NUMBER} files failed")
    assert outcomes(world, files) == {"incomplete": NUMBER}
    assert len(world.wire.sns) == NUMBER
    assert "in post_chunk[0]: the task was killed" in world.wire.sns[0]["Message"]
    assert ingest(run)["outcomes"] == {"processed": NUMBER}


@pytest.mark.parametrize("state", ["failed", None, "success"])
def test_plan_that_was_killed_or_marked_by_hand_is_reported_once_for_all_files(
    state: str | None, world: CallDetailsWorld
) -> None:
    files = drop(world)
    run = started()
    run.states["plan"] = state
    reconcile_fails(run)
    assert outcomes(world, files) == {"not planned": NUMBER}
    (message,) = world.wire.sns
    assert f"{NUMBER} of {NUMBER} files that share this run were not ingested" in message["Message"]
    assert ingest(run)["outcomes"] == {"processed": NUMBER}


def test_file_that_a_passing_fault_keeps_from_being_planned_gets_a_run_of_its_own(world: CallDetailsWorld) -> None:
    files = drop(world)
    watch = watch_run()
    (start,) = claim_files(watch)
    watch.other_runs[start["trigger_run_id"]] = "running"

    def fail(request: dict[str, Any]) -> None:
        if request["Key"] == processing_key(files[4]):
            raise s3_error("SlowDown", "GetObject")

    world.s3.before["GetObject"] = fail
    assert ingest(shared_run(start))["outcomes"] == {"processed": NUMBER - 1, "left to another run": 1}
    del world.s3.before["GetObject"]
    assert world.wire.sns == []
    (own,) = claim_files(watch)
    assert own["trigger_run_id"] == run_id(files[4])
    assert ingest(shared_run(own))["outcome"] == "processed"


def test_storage_that_fails_for_all_files_is_a_matter_of_a_retry(world: CallDetailsWorld) -> None:
    files = drop(world)
    (start,) = claim_files(watch_run())

    def fail(request: dict[str, Any]) -> None:
        if request["Key"].startswith("processing/"):
            raise s3_error("SlowDown", "GetObject")

    world.s3.before["GetObject"] = fail
    with pytest.raises(RetryableFailuresError, match=f"none of {NUMBER} files could be planned"):
        plan(shared_run(start))
    del world.s3.before["GetObject"]
    ingest(shared_run(start))
    assert outcomes(world, files) == {"processed": NUMBER}


def test_file_that_is_dropped_again_waits_for_the_shared_run_and_is_not_posted_again(world: CallDetailsWorld) -> None:
    files = drop(world)
    watch = watch_run()
    (start,) = claim_files(watch)
    watch.other_runs[start["trigger_run_id"]] = "running"
    run = shared_run(start)
    drop(world, 1)
    with pytest.raises(RetryableFailuresError, match="run files__"):
        claim_files(watch)
    ingest(run)
    watch.other_runs[run.run_id] = "success"
    assert claim_files(watch) == []
    assert world.s3.present("incoming/") == []
    assert world.api.keys == Counter(keys_of(*files))


def test_file_of_a_failed_shared_run_that_is_dropped_again_gets_a_run_of_its_own(world: CallDetailsWorld) -> None:
    files = drop(world, f003=BAD)
    watch = watch_run()
    (start,) = claim_files(watch)
    with pytest.raises(WorkFailedError):
        ingest(shared_run(start))
    watch.other_runs[start["trigger_run_id"]] = "failed"
    world.s3.drop(files[3].key, BAD)
    (own,) = claim_files(watch)
    assert own["trigger_run_id"] == run_id(files[3])
    with pytest.raises(WorkFailedError):
        ingest(shared_run(own))
    with pytest.raises(PipelineError):
        ingest(shared_run(start))
    assert outcomes(world, files) == {"processed": NUMBER - 1, "unreadable": 1}


def test_files_that_were_taken_from_a_shared_run_are_left_to_their_owners(world: CallDetailsWorld) -> None:
    files = drop(world)
    run = started()
    plan(run)
    for item in world.table.items.values():
        if "leased_until_ms" in item:
            item["leased_until_ms"] = {"N": "0"}
    ingest(ingest_run(files[2].key, etag=files[2].etag, run_id="manual__2"))
    post_chunk(run, 0)
    reconcile_fails(run, f"1 of {NUMBER} files failed")
    expected = {"processed": NUMBER - 1, "not ingested": 1}
    assert run.pushed("reconcile", "return_value")["outcomes"] == expected
    (message,) = world.wire.sns
    assert "file incoming/f002 " in message["Message"]
    assert "run manual__2 has taken over" in message["Message"]
    assert outcomes(world, files) == {"processed": NUMBER}
    assert world.api.keys == Counter(keys_of(*files))


def test_file_that_another_run_works_on_is_left_to_it(world: CallDetailsWorld) -> None:
    files = drop(world)
    run = started()
    world.table.items[files[2].partition, "claim"]["leased_until_ms"] = {"N": "0"}
    other = ingest_run(files[2].key, etag=files[2].etag, run_id="manual__2")
    assert plan(other) == [0]
    assert ingest(run)["outcomes"] == {"processed": NUMBER - 1, "left to another run": 1}
    assert world.wire.sns == []
    post_chunk(other, 0)
    assert reconcile(other)["outcome"] == "processed"
    assert world.api.keys == Counter(keys_of(*files))


def test_object_put_in_the_place_of_a_file_is_not_taken_for_it(world: CallDetailsWorld) -> None:
    files = drop(world)
    run = started()
    world.s3.drop(processing_key(files[1]), b"before it was planned\n")
    for index in plan(run):
        world.s3.drop(processing_key(files[2]), b"after it was planned\n")
        with pytest.raises(WorkFailedError):
            post_chunk(run, index)
    world.s3.drop(processing_key(files[3]), b"after it was posted\n")
    reconcile_fails(run, f"2 of {NUMBER} files failed")
    assert outcomes(world, files) == {"processed": NUMBER - 2, "not planned": 1, "incomplete": 1}
    assert receipts(world, files)[3]["not_ingested"] == processing_key(files[3])
    assert world.s3.body(processing_key(files[3])) == b"after it was posted\n"
    assert {request.headers["Idempotency-Key"] for request in world.api.posted} <= set(keys_of(*files))
    assert not any(b" it was " in request.content for request in world.api.posted)


def test_shared_run_that_never_started_is_started_by_the_next_round(world: CallDetailsWorld) -> None:
    files = drop(world)
    (start,) = claim_files(watch_run())
    assert claim_files(watch_run()) == [start]
    ingest(shared_run(start))
    assert outcomes(world, files) == {"processed": NUMBER}
