"""Many small files that are dropped at once share a run; a bad one, and a killed task, cost the others nothing."""

from collections.abc import Iterator

import pytest

from local.clients import AirflowApi
from local.stack.description import Stack
from tests.worlds.live.call_details import BATCHES, DAG_ID, POST_TASK, WATCH_DAG_ID, Ingest, lines
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import Partners
from tests.worlds.live.processes import running_tasks
from tests.worlds.live.waiting import wait_until

NUMBER = 300
IN_FLIGHT = 50
"""Of a task that may have half of the 50 calls, and as many again wait for their acknowledgement."""


@pytest.fixture
def watcher(airflow: AirflowApi, ingest: Ingest) -> Iterator[None]:
    """Switched on when a test says so; off again afterwards."""
    yield
    airflow.unpause(WATCH_DAG_ID, paused=True)
    ingest.forget_permits()


@pytest.mark.usefixtures("watcher")
def test_three_hundred_small_files_share_a_run_and_a_bad_one_and_a_killed_task_cost_no_other(
    stack: Stack, airflow: AirflowApi, ingest: Ingest, partners: Partners, inbox: Inbox
) -> None:
    files = [ingest.drop(f"small/{number:03}.jsonl", lines(3, text=str(number))) for number in range(NUMBER - 1)]
    bad = ingest.drop("small/bad.gz", b"\x1f\x8b damaged")
    # The API takes a batch as it comes in, and answers later: many are posted and not acknowledged.
    partners.order({"path": BATCHES, "latency_ms": 3_000})
    before = partners.last()
    airflow.unpause(WATCH_DAG_ID)

    def shared() -> list[str]:
        ids = [str(run["dag_run_id"]) for run in airflow.runs(DAG_ID)]
        return [run_id for run_id in ids if run_id.startswith(f"files__{NUMBER}_from_small_")]

    (run_id,) = wait_until(shared, what="the run that all files share")
    wait_until(lambda: partners.last() > before + IN_FLIGHT, what="the first batches", poll=0.1)
    posting = [str(task["id"]) for task in ingest.pipeline.tasks(run_id) if task["task_id"] == POST_TASK]
    running = running_tasks(stack)
    next(running[task] for task in posting if task in running).kill()
    partners.order()
    run = ingest.pipeline.ended(run_id)

    assert run.state == "failed", "of the bad file"
    assert sorted(task["try_number"] for task in run.mapped.values())[-1] == 2
    times = ingest.taken(*files)
    assert set(times) <= {1, 2}
    assert times.count(2) <= IN_FLIGHT
    for file in files:
        assert ingest.assert_processed(file)["run_id"] == run_id
    assert ingest.receipt(bad)["outcome"] == "unreadable"
    assert ingest.receipt(bad)["stored_as"] in ingest.keys("failed/")
    assert ingest.keys("incoming/") == ingest.keys("processing/") == []
    for messages in inbox.about(run_id):
        (message,) = messages
        assert "nothing of incoming/small/bad.gz was posted" in message
    ingest.pipeline.clear(run_id)
    assert ingest.pipeline.ended(run_id).state == "failed", "the file is as bad as before"
    assert ingest.taken(*files) == times
