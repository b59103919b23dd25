"""The watcher: every version that is dropped gets one run, however it is announced, and none waits for another."""

import gzip
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local.clients import AirflowApi
from local.stack.description import Stack
from tests.worlds.live.call_details import BATCHES, CLOSE_TASK, PLAN_TASK, WATCH_DAG_ID, Ingest, lines
from tests.worlds.live.partners import Partners
from tests.worlds.live.secrets import Secrets
from tests.worlds.live.waiting import wait_until

REFUSED = 7
IN_FLIGHT = 50
"""Batches of a file of one chunk that are posted and not acknowledged."""


@pytest.fixture(scope="module", autouse=True)
def watcher(airflow: AirflowApi) -> Iterator[None]:
    """Watches during these tests: others start their runs by hand."""
    airflow.unpause(WATCH_DAG_ID)
    yield
    airflow.unpause(WATCH_DAG_ID, paused=True)


def test_each_version_is_ingested_once_and_again_only_if_forced(ingest: Ingest, partners: Partners) -> None:
    before = partners.last()
    files = [
        ingest.drop("a b+ä/ü (1)=%41.txt", lines(1_200)),
        ingest.drop("{{ 7 * 7 }}.csv", lines(3)),
        ingest.drop("größe.txt.GZ", gzip.compress(lines(700))),
    ]
    runs = [ingest.pipeline.ended(ingest.run_of(file)) for file in files]
    assert [run.state for run in runs] == ["success"] * len(files)
    for file, run in zip(files, runs, strict=True):
        assert ingest.assert_processed(file)["run_id"] == run.id
        assert ingest.taken(file) == [1] * len(file.batches)
    posted = {call["query"]["idempotencyKey"] for call in partners.calls(BATCHES, since=before)}
    assert posted == {key for file in files for key in file.batch_keys}

    dropped_again, by_hand, forced = files
    ingest.drop(dropped_again.key.removeprefix("incoming/"), dropped_again.content)
    skipped_id, forced_id = ingest.start(by_hand), ingest.start(forced, force=True)
    skipped, posted_again = ingest.pipeline.ended(skipped_id), ingest.pipeline.ended(forced_id)
    wait_until(lambda: ingest.keys("incoming/") == [], what="the removal of the file that was dropped again")
    assert (skipped.state, skipped.task(CLOSE_TASK)["state"]) == ("success", "skipped")
    (done_by,) = ingest.runs_of(by_hand)
    assert f"was ingested by run {done_by}: nothing is posted" in ingest.pipeline.log(skipped_id, PLAN_TASK)
    assert posted_again.state == "success"
    assert ingest.assert_processed(forced)["run_id"] == forced_id
    assert [set(ingest.taken(file)) for file in files] == [{1}, {1}, {2}]
    assert [len(ingest.runs_of(file)) for file in files] == [1, 1, 1]


def test_later_files_overtake_a_long_one_and_only_one_of_three_runs_gets_a_file(
    stack: Stack, ingest: Ingest, partners: Partners, secrets: Secrets
) -> None:
    secrets.change(stack.settings_variable, max_records_per_batch=1)
    before = partners.last()
    long = ingest.drop("long.txt", lines(2_400), size=1)
    partners.order(long.rule(latency_ms=3_000))
    long_id = ingest.run_of(long)
    wait_until(lambda: partners.last() > before + 10, what="the first calls for the long file")

    overwriting = ingest.drop("long.txt", lines(5, text="another version"), size=1)
    wanted = ingest.drop("wanted.txt", lines(4), size=1)
    with ThreadPoolExecutor(2) as threads:
        by_hand = list(threads.map(lambda _: ingest.start(wanted), range(2)))
    assert ingest.pipeline.ended(ingest.run_of(overwriting)).state == "success"
    claimants = [ingest.pipeline.ended(run_id) for run_id in [*by_hand, *ingest.runs_of(wanted)]]
    assert ingest.pipeline.airflow.run(ingest.pipeline.dag_id, long_id)["state"] == "running"
    partners.order()
    assert ingest.pipeline.ended(long_id).state == "success"

    for file in (long, overwriting, wanted):
        ingest.assert_processed(file)
        assert ingest.taken(file) == [1] * len(file.batches)
    assert {run.state for run in claimants} == {"success"}
    assert [run.task(CLOSE_TASK)["state"] for run in claimants].count("success") == 1
    owner = ingest.receipt(wanted)["run_id"]
    for run in claimants:
        told = run.id == owner or f"was ingested by run {owner}" in last_log(ingest, run.id, run.task(PLAN_TASK))
        assert told, run.id
    assert ingest.keys("incoming/") == ingest.keys("processing/") == []


def test_a_file_delivered_again_after_its_run_failed_has_the_rest_posted_by_the_same_run(
    stack: Stack, ingest: Ingest, partners: Partners, secrets: Secrets
) -> None:
    ingest.forget_dead_letters()
    queue = stack.call_details_dlq_url
    # Without its queue, a refused batch is no dead letter, and the run cannot account for it.
    secrets.change(stack.settings_variable, max_records_per_batch=1, call_details_dlq_url=f"{queue}-gone")
    file = ingest.drop("delivered again.txt", lines(60), size=1)
    partners.order(file.rule(REFUSED, status=422))
    run_id = ingest.run_of(file)
    assert ingest.pipeline.ended(run_id).state == "failed"
    assert ingest.receipt(file)["outcome"] == "incomplete"

    partners.order()
    secrets.change(stack.settings_variable, call_details_dlq_url=queue)
    ingest.drop("delivered again.txt", file.content)
    wait_until(lambda: ingest.receipt(file)["outcome"] == "processed", what="the receipt of the second delivery")
    assert ingest.pipeline.ended(run_id).state == "success"
    ingest.assert_processed(file)
    times = ingest.taken(file)
    assert set(times) <= {1, 2}
    assert times.count(2) <= IN_FLIGHT
    assert ingest.runs_of(file) == [run_id]
    assert ingest.dead_letters() == []
    assert ingest.keys("incoming/") == ingest.keys("processing/") == []


def last_log(ingest: Ingest, run_id: str, task: dict[str, Any]) -> str:
    """The log of a task's last attempt."""
    return ingest.pipeline.log(run_id, task["task_id"], attempt=task["try_number"])
