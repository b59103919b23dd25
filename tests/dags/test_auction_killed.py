"""A triggerer that dies at any step of an auction: each order is stored once, each alert sent once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_ext.ids import ENERGY_AUCTION
from airflow_ext.triggers.lambda_result import Wait
from tests.dags.auction import begin, end, fire, process_all, summarize
from tests.worlds.airflow import FakeRun
from tests.worlds.auction import A, AuctionWorld, B

STATUSES = ["accepted", "rejected", "accepted", "rejected", "accepted"]


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def dying(world: AuctionWorld, at: int) -> Iterator[threading.Event]:
    """From its outside call number ``at`` on, the process makes none; calls of functions count before and after.

    Yields what is set when it is dead.
    """
    numbers, lock, dead = itertools.count(), threading.Lock(), threading.Event()

    def step(*arguments: Any) -> None:
        with lock:
            if next(numbers) >= at:
                dead.set()
                raise Killed

    def around(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def called(payload: Any) -> Any:
            step()
            answer = function(payload)
            step()
            return answer

        return called

    functions = dict(world.functions.functions)
    world.functions.functions |= {name: around(function) for name, function in functions.items()}
    world.s3.before |= dict.fromkeys(("GetObject", "PutObject"), step)
    try:
        yield dead
    finally:
        world.s3.before.clear()
        world.functions.functions |= functions


@pytest.mark.parametrize("group", [1, 2])
def test_triggerer_that_dies_at_any_step_costs_no_order_and_no_alert(group: int) -> None:
    for at in itertools.count():
        with AuctionWorld().attached() as world:
            if group > 1:
                world.change_settings(max_mapped_orders=1, orders_per_task=group)
            run = FakeRun(dag_id=ENERGY_AUCTION, start_date=datetime.now(UTC))
            world.answer([{"results": False}])
            waiting = begin(run)
            assert isinstance(waiting, Wait)
            world.give(*STATUSES)
            with dying(world, at) as dead, suppress(Killed):
                event = fire(waiting)
            if dead.is_set():
                event = fire(waiting)
            process_all(run, end(run, event))
            summary = summarize(run)
            assert (summary["accepted"], summary["rejected"], summary["errored"]) == (3, 2, 0), at
            assert [len(world.s3.bodies(key)) for key in world.orders()] == [1, 1, 1], at
            assert (len(world.wire.sns), len(world.wire.slack)) == (2, 2), at
            assert len(world.functions.asked(B)) <= 2 * len(STATUSES)
        if not dead.is_set():
            assert at > 2 * len(STATUSES), "it died at no step"
            assert len(world.functions.asked(A)) == 2
            assert len(world.functions.asked(B)) == len(STATUSES), "the tasks find their orders settled"
            return
