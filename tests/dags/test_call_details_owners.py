import httpx
import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.call_details.keys import idempotency_key
from include.errors import ClaimLostError, FileHeldError, RunRefusedError
from tests.dags.call_details import KEY, counts, drop, ingest, ingest_run, plan, post_chunk, reconcile, reconcile_fails
from tests.worlds.call_details import CallDetailsWorld

world = CallDetailsWorld.fixture()


def test_second_run_for_the_same_file_waits_and_then_finds_it_done(world: CallDetailsWorld) -> None:
    drop(world)
    first, second = ingest_run(KEY), ingest_run(KEY, run_id="manual__2")
    plan(first)
    with pytest.raises(FileHeldError, match="run manual__1 works on"):
        plan(second)
    post_chunk(first, 0)
    reconcile(first)
    assert plan(second) == []
    with pytest.raises(AirflowSkipException):
        reconcile(second)


def test_run_that_failed_is_followed_by_the_next_at_once(world: CallDetailsWorld) -> None:
    drop(world)
    first = ingest_run(KEY)
    plan(first)
    reconcile_fails(first, "ended incomplete")
    assert counts(ingest(ingest_run(KEY, run_id="manual__2"))) == (3, 3, 0)


def test_second_run_that_waits_without_success_touches_nothing_of_the_first(world: CallDetailsWorld) -> None:
    drop(world)
    first, second = ingest_run(KEY), ingest_run(KEY, run_id="manual__2")
    plan(first)
    with pytest.raises(RunRefusedError, match="plan refused the run, nothing was ingested: FileHeldError"):
        ingest(second)
    assert world.s3.present("receipts/") == []
    post_chunk(first, 0)
    assert counts(reconcile(first)) == (3, 3, 0)


def test_run_that_was_taken_over_stops(world: CallDetailsWorld) -> None:
    drop(world)
    first, second = ingest_run(KEY), ingest_run(KEY, run_id="manual__2")
    plan(first)
    for item in world.table.items.values():
        if "leased_until_ms" in item:
            item["leased_until_ms"] = {"N": "0"}
    assert plan(second) == [0]
    with pytest.raises(ClaimLostError):
        post_chunk(first, 0)
    with pytest.raises(ClaimLostError, match="run manual__2 has taken over"):
        reconcile(first)
    assert world.api.posted == []
    post_chunk(second, 0)
    assert counts(reconcile(second)) == (3, 3, 0)


def test_last_task_that_dies_after_the_file_was_closed_alerts_people_when_it_is_retried(
    world: CallDetailsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = drop(world)
    world.api.answers[idempotency_key(file, 0)] = [httpx.Response(422)]
    run = ingest_run(KEY)
    plan(run)
    post_chunk(run, 0)
    world.cloudwatch.error = KeyboardInterrupt("killed")
    with pytest.raises(KeyboardInterrupt):
        reconcile(run)
    world.cloudwatch.error = None
    assert world.wire.sns == []
    assert reconcile(run)["outcome"] == "processed with dead letters"
    assert len(world.wire.sns) == 1
