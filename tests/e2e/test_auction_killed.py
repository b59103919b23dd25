"""An auction whose triggerer or worker dies."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

from local.stack.description import Stack
from tests.worlds.live.auction import NOT_YET, ORDER_TASK, WAIT_TASK, Results, order_id, orders, ready
from tests.worlds.live.functions import Functions
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.processes import another, lose_worker, running_tasks, service_of, standing_still
from tests.worlds.live.secrets import Secrets
from tests.worlds.live.waiting import wait_until
from tests.worlds.templates import load, properties_of

POLLS = 5
HANDED_OVER = 10
TOTAL, GROUP = 24, 12
REJECTED = range(0, TOTAL, 3)


def test_another_triggerer_goes_on_polling_and_no_order_is_taken_twice(
    stack: Stack, auction: Pipeline, functions: Functions, results: Results
) -> None:
    """The stack ends when its own triggerer does: so that one stands still while a second one waits and is killed."""
    function = functions.auction(*[{"answer": NOT_YET}] * (POLLS - 1), {"answer": ready(orders(2))})
    with standing_still(service_of(stack, "triggerer")), another("triggerer", stack) as triggerer:
        run_id = auction.start(function_a=function.name)
        wait_until(lambda: len(function.calls()) > 1, what="a poll by the second triggerer")
        os.killpg(triggerer.pid, signal.SIGKILL)
    run = auction.ended(run_id)

    assert run.state == "success"
    assert run.task(WAIT_TASK)["try_number"] == 1
    assert len(function.calls()) == POLLS
    assert results.stored(run_id, 2) == {0: 1, 1: 1}


def test_a_triggerer_that_dies_among_the_orders_costs_no_order_and_the_tasks_do_the_rest(
    stack: Stack, auction: Pipeline, functions: Functions, results: Results, secrets: Secrets
) -> None:
    # One after the other: most are still to be given to Lambda B when the first one is seen.
    secrets.change(stack.settings_variable, auction_concurrency=1)
    function = functions.auction({"answer": NOT_YET}, {"answer": ready(orders(HANDED_OVER))})
    exchange = functions.exchange()
    with standing_still(service_of(stack, "triggerer")), another("triggerer", stack) as triggerer:
        run_id = auction.start(function_a=function.name, function_b=exchange.name)
        wait_until(lambda: results.stored(run_id, HANDED_OVER), what="the first order", poll=0.05)
        os.killpg(triggerer.pid, signal.SIGKILL)
        assert {task["task_id"]: task["state"] for task in auction.tasks(run_id)}[WAIT_TASK] == "deferred"
    run = auction.ended(run_id)

    assert run.state == "success"
    assert len(function.calls()) == 2
    assert len(run.mapped) == HANDED_OVER
    assert results.stored(run_id, HANDED_OVER) == dict.fromkeys(range(HANDED_OVER), 1)
    assert results.summary(run_id)["accepted"] == HANDED_OVER


def test_functions_and_storage_that_stand_still_among_the_orders_cost_none(
    stack: Stack, auction: Pipeline, functions: Functions, results: Results, secrets: Secrets
) -> None:
    secrets.change(stack.settings_variable, auction_concurrency=1)
    function = functions.auction({"answer": NOT_YET}, {"answer": ready(orders(HANDED_OVER))})
    run_id = auction.start(function_a=function.name, function_b=functions.exchange().name)
    wait_until(lambda: results.stored(run_id, HANDED_OVER), what="the first order", poll=0.05)
    with standing_still(service_of(stack, "emulator")):
        began = datetime.now(UTC)
        # Its supervisor stops this when the triggers' event loop is held.
        wait_until(lambda: last_heartbeat(stack) > began + timedelta(seconds=4), what="a triggerer that is alive")
    run = auction.ended(run_id)

    assert run.state == "success"
    assert run.task(WAIT_TASK)["try_number"] == 1
    assert len(function.calls()) == 2
    assert results.stored(run_id, HANDED_OVER) == dict.fromkeys(range(HANDED_OVER), 1)
    assert results.summary(run_id)["accepted"] == HANDED_OVER


def last_heartbeat(stack: Stack) -> datetime:
    with stack.airflow() as http:
        health = http.get("/api/v2/monitor/health").raise_for_status().json()
    return datetime.fromisoformat(health["triggerer"]["latest_triggerer_heartbeat"])


def test_a_lost_worker_costs_no_order_no_alert_and_no_run(
    stack: Stack, auction: Pipeline, functions: Functions, results: Results, inbox: Inbox, secrets: Secrets
) -> None:
    """Under the options as shipped: the loss is noticed, and the task tried again, within the run's five minutes."""
    (shipped,) = properties_of(load("mwaa.yaml"), "AWS::MWAA::Environment").values()
    for option in ("task_instance_heartbeat_timeout", "orphaned_tasks_check_interval"):
        ours = stack.airflow_environment()[f"AIRFLOW__SCHEDULER__{option.upper()}"]
        assert ours == shipped["AirflowConfigurationOptions"][f"scheduler.{option}"]
    offered = [
        {**order, "status": "rejected" if index in REJECTED else "accepted"}
        for index, order in enumerate(orders(TOTAL))
    ]
    secrets.change(stack.settings_variable, max_mapped_orders=2, orders_per_task=GROUP, auction_concurrency=1)
    function = functions.auction({"answer": ready(offered)})
    run_id = auction.start(function_a=function.name, function_b=functions.exchange().name)

    def in_the_middle() -> list[dict[str, Any]]:
        """Tasks that run while some of their orders are stored and some are not."""
        stored, running = results.stored(run_id, TOTAL), running_tasks(stack)
        return [
            task
            for task in auction.tasks(run_id)
            if task["task_id"] == ORDER_TASK
            and task["id"] in running
            and 2 <= sum(index // GROUP == task["map_index"] for index in stored) <= 7
        ]

    victim = wait_until(in_the_middle, what="a task in the middle of its orders", poll=0.05)[0]
    lose_worker(stack, victim)
    run = auction.ended(run_id)

    assert run.state == "success"
    tries = {task["map_index"]: task["try_number"] for task in run.mapped.values()}
    assert tries[victim["map_index"]] == 2
    assert results.stored(run_id, TOTAL) == {index: 1 for index in range(TOTAL) if index not in REJECTED}
    counts = {"total": TOTAL, "accepted": TOTAL - len(REJECTED), "rejected": len(REJECTED), "errored": 0}
    assert results.summary(run_id).items() >= counts.items()
    for messages in inbox.about(run_id, failed=False):
        assert [sum(order_id(run_id, index) in text for text in messages) for index in REJECTED] == [1] * len(REJECTED)
        assert len(messages) == len(REJECTED)
