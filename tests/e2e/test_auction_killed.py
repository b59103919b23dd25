"""The triggerer dies while it waits for results."""

from __future__ import annotations

import os
import signal

import psutil

from local.stack.description import Stack
from tests.e2e.kit.auction import NOT_YET, WAIT_TASK, Results, orders, ready
from tests.e2e.kit.functions import Functions
from tests.e2e.kit.pipeline import Pipeline
from tests.e2e.kit.processes import another, standing_still
from tests.e2e.kit.waiting import wait_until

POLLS = 5


def test_another_triggerer_goes_on_polling_and_no_order_is_taken_twice(
    stack: Stack, auction: Pipeline, functions: Functions, results: Results
) -> None:
    """The stack ends when its own triggerer does: so that one stands still while a second one waits and is killed."""
    function = functions.auction(*[{"answer": NOT_YET}] * (POLLS - 1), {"answer": ready(orders(2))})
    with standing_still(psutil.Process(stack.pids["triggerer"])), another("triggerer", stack) as triggerer:
        run_id = auction.start(function_a=function.name)
        wait_until(lambda: len(function.calls()) > 1, what="a poll by the second triggerer")
        os.killpg(triggerer.pid, signal.SIGKILL)
    run = auction.ended(run_id)

    assert run.state == "success"
    assert run.task(WAIT_TASK)["try_number"] == 1
    assert len(function.calls()) == POLLS
    assert results.stored(run_id, 2) == {0: 1, 1: 1}
