"""Tasks and services that die or stand still in the middle of a file."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import pytest

from local.stack import Stack
from tests.e2e.kit.ingest import BATCHES, POST_TASK, File, Ingest, lines
from tests.e2e.kit.partners import Partners
from tests.e2e.kit.processes import another, another_log, running_tasks, standing_still
from tests.e2e.kit.secrets import Secrets
from tests.e2e.kit.waiting import wait_until

SIZE = 10
IN_FLIGHT = 37
"""Of a file of one chunk, which may have half of the 50 calls, and half as many again waits for its acknowledgement."""

SILENT_SECONDS = 15
"""After so long without a sign of life a scheduler counts as dead."""
OUTAGE_SECONDS = 12.0


@pytest.fixture(autouse=True)
def no_permit_left(ingest: Ingest) -> Iterator[None]:
    """No dead task keeps calls from the next test."""
    yield
    ingest.forget_permits()


def posting_task(ingest: Ingest, run_id: str) -> str:
    """The id of the one task instance that posts."""
    (task,) = (task for task in ingest.pipeline.tasks(run_id) if task["task_id"] == POST_TASK)
    return str(task["id"])


def wait_for_batches(ingest: Ingest, file: File, number: int) -> None:
    """Wait until the API has taken so many batches."""
    wait_until(lambda: sum(ingest.taken(file)) >= number, what=f"{number} batches of {file.key}", poll=0.05)


def test_a_killed_task_goes_on_after_its_last_acknowledged_batch(
    stack: Stack, ingest: Ingest, partners: Partners, secrets: Secrets
) -> None:
    secrets.change(stack.settings_variable, max_records_per_batch=SIZE)
    file = ingest.drop("killed.txt", lines(300 * SIZE), size=SIZE)
    # The API takes a batch as it comes in, and answers later: many are posted and not acknowledged.
    partners.order({"path": BATCHES, "latency_ms": 900})
    run_id = ingest.start(file)
    wait_for_batches(ingest, file, 3 * IN_FLIGHT)
    running_tasks(stack)[posting_task(ingest, run_id)].kill()
    partners.order()
    run = ingest.pipeline.ended(run_id)

    assert run.state == "success"
    assert [task["try_number"] for task in run.mapped.values()] == [2]
    ingest.assert_processed(file)
    times = ingest.taken(file)
    assert set(times) == {1, 2}
    assert times.count(2) <= IN_FLIGHT


def test_another_scheduler_takes_over_and_the_tasks_of_the_first_one_find_out(
    stack: Stack, ingest: Ingest, partners: Partners, secrets: Secrets
) -> None:
    """The stack ends when its own scheduler does: so that one stands still, and wakes when the work is done."""
    secrets.change(stack.settings_variable, max_records_per_batch=SIZE)
    file = ingest.drop("taken over.txt", lines(1_800 * SIZE), size=SIZE)
    partners.order({"path": BATCHES, "latency_ms": 900})
    run_id = ingest.start(file)
    wait_for_batches(ingest, file, IN_FLIGHT)
    first = posting_task(ingest, run_id)
    options = {
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": str(SILENT_SECONDS),
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "2",
    }
    with another("scheduler", stack, **options):
        started = another_log("scheduler", stack)
        wait_until(lambda: "Adopting or resetting orphaned tasks" in started.read_text(), what="the other scheduler")
        assert first in running_tasks(stack)
        with standing_still(psutil.Process(stack.pids["scheduler"])):
            partners.order()
            run = ingest.pipeline.ended(run_id, timeout=180)
        wait_until(lambda: first not in running_tasks(stack), what="the end of the task that stood still")

    assert run.state == "success"
    ingest.assert_processed(file)
    times = ingest.taken(file)
    assert set(times) == {1, 2}
    assert times.count(2) <= IN_FLIGHT


def test_an_emulator_that_stands_still_costs_time_and_nothing_else(
    stack: Stack, ingest: Ingest, partners: Partners, secrets: Secrets
) -> None:
    """As long as no call of AWS is answered, nothing is acknowledged, and so nothing more is posted."""
    secrets.change(stack.settings_variable, max_records_per_batch=SIZE)
    file = ingest.drop("stood still.txt", lines(200 * SIZE), size=SIZE)
    partners.order({"path": BATCHES, "latency_ms": 200})
    run_id = ingest.start(file)
    wait_for_batches(ingest, file, IN_FLIGHT)
    with standing_still(psutil.Process(stack.pids["emulator"])):
        # The outage itself: longer than a client waits before it asks again.
        time.sleep(OUTAGE_SECONDS)
        assert sum(ingest.taken(file)) < len(file.batches)
    run = ingest.pipeline.ended(run_id)

    assert run.state == "success"
    assert [task["try_number"] for task in run.mapped.values()] == [1]
    ingest.assert_processed(file)
    assert set(ingest.taken(file)) == {1}
