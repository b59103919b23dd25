"""More orders than a run may map, and a task that is killed in the middle of its group."""

import psutil

from local.stack.description import Stack
from tests.worlds.live.auction import ORDER_TASK, Results, order_id, orders, ready
from tests.worlds.live.functions import Functions
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.processes import running_tasks
from tests.worlds.live.secrets import Secrets
from tests.worlds.live.waiting import wait_until

TOTAL, GROUP = 300, 50
REJECTED = range(7, TOTAL, 40)


def test_300_orders_share_tasks_and_each_is_accounted_for_once_though_a_task_is_killed(
    stack: Stack, auction: Pipeline, functions: Functions, results: Results, inbox: Inbox, secrets: Secrets
) -> None:
    offered = [
        {**order, "status": "rejected" if index in REJECTED else "accepted"}
        for index, order in enumerate(orders(TOTAL))
    ]
    secrets.change(stack.settings_variable, auction_concurrency=1)
    run_id = auction.start(function_a=functions.auction({"answer": ready(offered)}).name)

    def half_done() -> dict[int, psutil.Process]:
        """By map index, the tasks that run while some of their orders are stored and some are not."""
        stored, running = results.stored(run_id, TOTAL), running_tasks(stack)
        tasks = [task for task in auction.tasks(run_id) if task["task_id"] == ORDER_TASK and task["id"] in running]
        return {
            task["map_index"]: running[task["id"]]
            for task in tasks
            if 10 < sum(index // GROUP == task["map_index"] for index in stored) < 40
        }

    index, victim = wait_until(half_done, what="a task in the middle of its orders", poll=0.1).popitem()
    victim.kill()
    run = auction.ended(run_id)

    assert run.state == "success"
    assert list(run.mapped) == [f"orders {first}-{first + GROUP - 1}" for first in range(0, TOTAL, GROUP)]
    # On a machine that is busy with other things a function may take too long, and its task is tried again as well.
    assert index in [task["map_index"] for task in run.mapped.values() if task["try_number"] > 1]
    assert results.stored(run_id, TOTAL) == {index: 1 for index in range(TOTAL) if index not in REJECTED}
    counts = {"total": TOTAL, "accepted": TOTAL - len(REJECTED), "rejected": len(REJECTED), "errored": 0}
    assert results.summary(run_id).items() >= counts.items()
    for messages in inbox.about(run_id, failed=False):
        assert [sum(order_id(run_id, index) in text for text in messages) for index in REJECTED] == [1] * len(REJECTED)
        assert len(messages) == len(REJECTED)
