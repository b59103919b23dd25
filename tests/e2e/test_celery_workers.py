"""Several workers, as on MWAA: every pipeline runs on them, and none is missed when it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.services.celery import WORKER_NAMES
from local.stack.description import Stack
from tests.e2e.conftest import NewDay, UseClients
from tests.worlds.live.archive import Archive
from tests.worlds.live.auction import Results, orders, ready
from tests.worlds.live.call_details import BATCHES, POST_TASK, Ingest, lines
from tests.worlds.live.delivery import DELIVER_TASK, Delivery
from tests.worlds.live.functions import Functions
from tests.worlds.live.partners import Partners
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.processes import lose, running_tasks, service_of
from tests.worlds.live.secrets import Secrets
from tests.worlds.live.waiting import wait_until

CLIENTS = range(3001, 3025)
ORDERS = 12
SIZE = 10
IN_FLIGHT = 50
"""Of a file of one chunk, which may have half of the 50 calls, and as many again wait for their acknowledgement."""


@pytest.fixture(autouse=True)
def no_permit_left(ingest: Ingest) -> Iterator[None]:
    """No lost task keeps calls from the next test."""
    yield
    ingest.forget_permits()


def test_every_pipeline_runs_on_both_workers(
    stack: Stack,
    pipeline: Pipeline,
    auction: Pipeline,
    ingest: Ingest,
    delivery: Delivery,
    functions: Functions,
    partners: Partners,
    archive: Archive,
    results: Results,
    use_clients: UseClients,
    new_day: NewDay,
) -> None:
    use_clients(CLIENTS)
    day = new_day()
    archived = pipeline.start(trigger_date=day)
    auctioned = auction.start(function_a=functions.auction({"answer": ready(orders(ORDERS))}).name)
    file = ingest.drop("workers.txt", lines(5_000))
    ingested = ingest.start(file)
    owner = delivery.owner("workers")
    event = delivery.post(owner)

    ends = [pipeline.ended(archived), auction.ended(auctioned), ingest.pipeline.ended(ingested)]
    delivery.wait_for("delivered", event)
    delivery.pipeline.wait_until_idle()

    assert [run.state for run in ends] == ["success"] * 3
    assert archive.manifest(day)["successful_archives"] == len(CLIENTS)
    assert results.stored(auctioned, ORDERS) == dict.fromkeys(range(ORDERS), 1)
    ingest.assert_processed(file)
    assert delivery.arrived(owner) == [event]
    delivered = [task for run_id in delivery.pipeline.run_ids() for task in delivery.pipeline.tasks(run_id)]
    assert any(task["task_id"] == DELIVER_TASK and task["hostname"] in WORKER_NAMES for task in delivered)
    tasks = [task for run in ends for task in run.tasks if task["state"] == "success"]
    assert {task["hostname"] for task in tasks} == set(WORKER_NAMES)
    assert {task["executor"] for task in tasks} <= {None, "CeleryExecutor"}


def test_worker_imports_for_all_its_tasks_as_it_starts(stack: Stack) -> None:
    """Every process below it is a fork: what it has in memory, none of them loads."""
    for name in WORKER_NAMES:
        loaded = {Path(mapped.path).parent.name for mapped in service_of(stack, name).memory_maps()}
        assert {"msgspec", "aiohttp"} <= loaded


def test_a_lost_worker_costs_its_task_a_try_and_no_record_is_lost(
    stack: Stack, ingest: Ingest, partners: Partners, secrets: Secrets
) -> None:
    secrets.change(stack.settings_variable, max_records_per_batch=SIZE)
    file = ingest.drop("lost.txt", lines(1_000 * SIZE), size=SIZE)
    # The API takes a batch as it comes in, and answers later: many are posted and not acknowledged.
    partners.order({"path": BATCHES, "latency_ms": 900})
    run_id = ingest.start(file)
    wait_until(lambda: sum(ingest.taken(file)) >= 2 * IN_FLIGHT, what="posted batches", poll=0.05)
    victim = posting_task(ingest, run_id)
    assert victim["id"] in running_tasks(stack)
    lost = service_of(stack, victim["hostname"])
    lose(lost)
    partners.order()
    run = ingest.pipeline.ended(run_id)

    assert run.state == "success"
    assert [task["try_number"] for task in run.mapped.values()] == [2]
    ingest.assert_processed(file)
    times = ingest.taken(file)
    assert set(times) == {1, 2}
    assert times.count(2) <= IN_FLIGHT
    wait_until(lambda: service_of(stack, victim["hostname"]).pid != lost.pid, what="a worker in its place")


def posting_task(ingest: Ingest, run_id: str) -> dict[str, Any]:
    """The one task instance that posts."""
    (task,) = (task for task in ingest.pipeline.tasks(run_id) if task["task_id"] == POST_TASK)
    return task
