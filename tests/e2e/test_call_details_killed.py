"""Tasks and services that die or stand still in the middle of a file."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest

from local.services.airflow import Executor
from local.stack.description import Stack
from tests.worlds.live.call_details import BATCHES, POST_TASK, File, Ingest, lines
from tests.worlds.live.partners import Partners
from tests.worlds.live.pipeline import Ended
from tests.worlds.live.processes import another, another_log, holds_no_lock, running_tasks, service_of, standing_still
from tests.worlds.live.secrets import Secrets
from tests.worlds.live.waiting import wait_until

SIZE = 10
IN_FLIGHT = 50
"""Of a file of one chunk, which may have half of the 50 calls, and as many again wait for their acknowledgement."""

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


@dataclass(frozen=True)
class Posted:
    """A file of one chunk, of which some batches are posted, and many of these are not acknowledged yet."""

    file: File
    run_id: str


class HalfWay(Protocol):
    """Starts a run of a file of so many batches, and waits until the API has taken some of them."""

    def __call__(self, name: str, *, batches: int, posted: int, latency_ms: float) -> Posted: ...


@pytest.fixture
def half_way(stack: Stack, ingest: Ingest, partners: Partners, secrets: Secrets) -> HalfWay:
    """See :class:`HalfWay`."""

    def start(name: str, *, batches: int, posted: int, latency_ms: float) -> Posted:
        secrets.change(stack.settings_variable, max_records_per_batch=SIZE)
        file = ingest.drop(name, lines(batches * SIZE), size=SIZE)
        # The API takes a batch as it comes in, and answers later: many are posted and not acknowledged.
        partners.order({"path": BATCHES, "latency_ms": latency_ms})
        before = partners.received(batches=False)["batches"]
        run_id = ingest.start(file)
        wait_until(
            lambda: partners.received(batches=False)["batches"] >= before + posted,
            what=f"{posted} batches of {file.key}",
            poll=0.05,
        )
        return Posted(file, run_id)

    return start


def assert_repeated(ingest: Ingest, posted: Posted, run: Ended) -> None:
    """All is accounted for, and no more batches came twice than had been under way."""
    assert run.state == "success"
    ingest.assert_processed(posted.file)
    times = ingest.taken(posted.file)
    assert set(times) == {1, 2}
    assert times.count(2) <= IN_FLIGHT


def assert_once(ingest: Ingest, posted: Posted, run: Ended) -> None:
    """All is accounted for, and nothing came twice."""
    assert run.state == "success"
    ingest.assert_processed(posted.file)
    assert set(ingest.taken(posted.file)) == {1}


def test_a_killed_task_goes_on_after_its_last_acknowledged_batch(
    stack: Stack, ingest: Ingest, partners: Partners, half_way: HalfWay
) -> None:
    posted = half_way("killed.txt", batches=1_000, posted=3 * IN_FLIGHT, latency_ms=900)
    running_tasks(stack)[posting_task(ingest, posted.run_id)].kill()
    partners.order()
    run = ingest.pipeline.ended(posted.run_id)

    assert [task["try_number"] for task in run.mapped.values()] == [2]
    assert_repeated(ingest, posted, run)


def test_another_scheduler_takes_over_and_the_tasks_of_the_first_one_find_out(
    stack: Stack, ingest: Ingest, partners: Partners, half_way: HalfWay, executor: Executor
) -> None:
    """The stack ends when its own scheduler does: so that one stands still, and wakes when the work is done."""
    posted = half_way("taken over.txt", batches=1_800, posted=IN_FLIGHT, latency_ms=3_000)
    first = posting_task(ingest, posted.run_id)
    options = {
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": str(SILENT_SECONDS),
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "2",
        "PGAPPNAME": "another scheduler",
    }
    with another("scheduler", stack, **options):
        started = another_log("scheduler", stack)
        wait_until(lambda: "Adopting or resetting orphaned tasks" in started.read_text(), what="the other scheduler")
        assert first in running_tasks(stack)
        with standing_still(service_of(stack, "scheduler"), at=lambda: holds_no_lock(stack, "scheduler")):
            partners.order()
            run = ingest.pipeline.ended(posted.run_id)
        wait_until(lambda: first not in running_tasks(stack), what="the end of the task that stood still")

    # Tasks on Celery's workers do not stand still with their scheduler: the other one adopts them.
    (assert_once if executor == "CeleryExecutor" else assert_repeated)(ingest, posted, run)


def test_an_emulator_that_stands_still_costs_time_and_nothing_else(
    stack: Stack, ingest: Ingest, partners: Partners, half_way: HalfWay
) -> None:
    """As long as no call of AWS is answered, nothing is acknowledged, and so nothing more is posted."""
    posted = half_way("stood still.txt", batches=1_000, posted=IN_FLIGHT, latency_ms=900)
    with standing_still(service_of(stack, "emulator")):
        # The outage itself: longer than a client waits before it asks again.
        time.sleep(OUTAGE_SECONDS)
        assert sum(ingest.taken(posted.file)) < len(posted.file.batches)
        partners.order()
    run = ingest.pipeline.ended(posted.run_id)

    assert [task["try_number"] for task in run.mapped.values()] == [1]
    assert_once(ingest, posted, run)
