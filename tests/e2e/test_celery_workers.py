"""Several workers, as on MWAA: every pipeline runs on them, and none is missed when it is lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.services.celery import WORKER_NAMES
from local.stack.description import Stack
from tests.e2e.conftest import NewDay, UseClients
from tests.worlds.live.archive import Archive
from tests.worlds.live.auction import ORDER_TASK, Results, order_id, orders, ready
from tests.worlds.live.call_details import BATCHES, POST_TASK, Ingest, lines
from tests.worlds.live.delivery import DELIVER_TASK, Delivery
from tests.worlds.live.functions import Functions
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import Partners
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.processes import lose, running_tasks, service_of
from tests.worlds.live.secrets import Secrets
from tests.worlds.live.waiting import wait_until
from tests.worlds.templates import load, properties_of

CLIENTS = range(3001, 3009)
ORDERS = 12
REJECTED = range(0, 2 * ORDERS, 3)
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


def test_lost_workers_cost_their_tasks_a_try_and_no_record_no_order_and_no_alert(
    stack: Stack,
    ingest: Ingest,
    auction: Pipeline,
    functions: Functions,
    partners: Partners,
    results: Results,
    inbox: Inbox,
    secrets: Secrets,
) -> None:
    """Under the options as shipped: the loss is noticed, and the task tried again, within an auction's five minutes."""
    (shipped,) = properties_of(load("mwaa.yaml"), "AWS::MWAA::Environment").values()
    for option in ("task_instance_heartbeat_timeout", "orphaned_tasks_check_interval"):
        ours = stack.airflow_environment()[f"AIRFLOW__SCHEDULER__{option.upper()}"]
        assert ours == shipped["AirflowConfigurationOptions"][f"scheduler.{option}"]
    groups = {"max_mapped_orders": 2, "orders_per_task": ORDERS, "auction_concurrency": 1}
    secrets.change(stack.settings_variable, max_records_per_batch=SIZE, **groups)
    file = ingest.drop("lost.txt", lines(1_000 * SIZE), size=SIZE)
    # The API takes a batch as it comes in, and answers later: many are posted and not acknowledged.
    partners.order({"path": BATCHES, "latency_ms": 3_000})
    before = partners.received(batches=False)["batches"]
    ingested = ingest.start(file)
    wait_until(
        lambda: partners.received(batches=False)["batches"] >= before + IN_FLIGHT, what="posted batches", poll=0.05
    )
    posting = posting_task(ingest, ingested)
    offered = [
        {**order, "status": "rejected" if index in REJECTED else "accepted"}
        for index, order in enumerate(orders(2 * ORDERS))
    ]
    function_a, function_b = functions.auction({"answer": ready(offered)}), functions.exchange()
    auctioned = auction.start(function_a=function_a.name, function_b=function_b.name)

    def in_the_middle() -> list[dict[str, Any]]:
        """Tasks that run while some of their orders are stored and some are not."""
        stored, running = results.stored(auctioned, 2 * ORDERS), running_tasks(stack)
        return [
            task
            for task in auction.tasks(auctioned)
            if task["task_id"] == ORDER_TASK
            and task["id"] in running
            and 2 <= sum(index // ORDERS == task["map_index"] for index in stored) <= 7
        ]

    processing = wait_until(in_the_middle, what="a task in the middle of its orders", poll=0.05)[0]
    lost = {name: service_of(stack, name) for name in {posting["hostname"], processing["hostname"]}}
    for worker in lost.values():
        lose(worker)
    partners.order()
    sold, posted = auction.ended(auctioned), ingest.pipeline.ended(ingested)

    assert (sold.state, posted.state) == ("success", "success")
    assert {task["map_index"]: task["try_number"] for task in sold.mapped.values()}[processing["map_index"]] == 2
    assert results.stored(auctioned, 2 * ORDERS) == {index: 1 for index in range(2 * ORDERS) if index not in REJECTED}
    counts = {"total": 2 * ORDERS, "accepted": 2 * ORDERS - len(REJECTED), "rejected": len(REJECTED), "errored": 0}
    assert results.summary(auctioned).items() >= counts.items()
    for messages in inbox.about(auctioned, failed=False):
        assert [sum(order_id(auctioned, index) in text for text in messages) for index in REJECTED] == [1] * len(
            REJECTED
        )
        assert len(messages) == len(REJECTED)

    assert [task["try_number"] for task in posted.mapped.values()] == [2]
    ingest.assert_processed(file)
    times = ingest.taken(file)
    assert set(times) == {1, 2}
    assert times.count(2) <= IN_FLIGHT
    for name, worker in lost.items():
        wait_until(lambda name=name, worker=worker: service_of(stack, name).pid != worker.pid, what="another worker")


def posting_task(ingest: Ingest, run_id: str) -> dict[str, Any]:
    (task,) = (task for task in ingest.pipeline.tasks(run_id) if task["task_id"] == POST_TASK)
    return task
