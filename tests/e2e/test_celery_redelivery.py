"""A broker that gives out a message again while its task still runs: on Celery only, and slow to provoke."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.services.celery import WORKER_NAMES
from local.stack.description import Stack
from tests.worlds.live.call_details import BATCHES, POST_TASK, Ingest, lines
from tests.worlds.live.partners import Partners
from tests.worlds.live.processes import lose, service_of
from tests.worlds.live.secrets import Secrets
from tests.worlds.live.waiting import wait_until

SIZE = 10


@pytest.fixture(autouse=True)
def no_permit_left(ingest: Ingest) -> Iterator[None]:
    """No task keeps calls from the next test."""
    yield
    ingest.forget_permits()


def test_a_message_that_the_broker_gives_out_again_does_not_start_its_task_again(
    stack: Stack, ingest: Ingest, partners: Partners, secrets: Secrets
) -> None:
    """A broker takes a task that runs for long for one that is lost: on MWAA after 12 hours, here after seconds.

    Redis itself does nothing of the kind: workers look for such messages, soon after they start and then rarely.
    """
    secrets.change(stack.settings_variable, max_records_per_batch=SIZE)
    file = ingest.drop("given out again.txt", lines(1_500 * SIZE), size=SIZE)
    partners.order({"path": BATCHES, "latency_ms": 2_000})
    before = given_out_again(stack)
    run_id = ingest.start(file)
    wait_until(lambda: sum(ingest.taken(file)) > 0, what="a posted batch")
    (other,) = set(WORKER_NAMES) - {posting_worker(ingest, run_id)}
    lose(service_of(stack, other))
    wait_until(lambda: given_out_again(stack) > before, what="the message that comes again")
    partners.order()
    run = ingest.pipeline.ended(run_id)

    assert run.state == "success"
    assert [task["try_number"] for task in run.mapped.values()] == [1]
    ingest.assert_processed(file)
    assert set(ingest.taken(file)) == {1}


def posting_worker(ingest: Ingest, run_id: str) -> str:
    """The worker of the one task instance that posts."""
    (task,) = (task for task in ingest.pipeline.tasks(run_id) if task["task_id"] == POST_TASK)
    return str(task["hostname"])


def given_out_again(stack: Stack) -> int:
    """How often a worker was given a task that was running already."""
    logs = [(Path(stack.logs) / f"{name}.log").read_text() for name in WORKER_NAMES]
    return sum(log.count("ignoring redelivered message") for log in logs)
