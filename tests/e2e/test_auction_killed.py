"""An auction whose triggerer dies, or whose functions stand still. Lost workers: ``test_celery_workers.py``."""

import os
import signal
from datetime import UTC, datetime, timedelta

from local.stack.description import Stack
from tests.worlds.live.auction import NOT_YET, WAIT_TASK, Results, orders, ready
from tests.worlds.live.functions import Functions
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.processes import another, service_of, standing_still
from tests.worlds.live.secrets import Secrets
from tests.worlds.live.waiting import wait_until

POLLS = 5
HANDED_OVER = 10


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
