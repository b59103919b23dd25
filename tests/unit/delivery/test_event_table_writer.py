"""Changes of many lanes in few calls: each is written, whenever it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from include.delivery.event_table import CALLS_AT_ONCE, Writer
from include.delivery.models import Change, Lost
from tests.worlds.events import START, DeliveryWorld


class Held(Executor):
    """Keeps what it is given until it is told to do it."""

    def __init__(self) -> None:
        self.given: list[Callable[[], None]] = []

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done = Future[T]()
        self.given.append(lambda: done.set_result(fn(*args, **kwargs)))
        return done

    def go_on(self) -> None:
        """Do it all."""
        given, self.given = self.given, []
        for each in given:
            each()


async def turns(number: int) -> None:
    """Let the loop go round so many times."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("later", range(12))
def test_a_change_that_comes_when_calls_end_is_written(later: int) -> None:
    world = DeliveryWorld()
    world.add(CALLS_AT_ONCE + 1)
    changes = [Change.of(event, {"lease_owner": "me"}) for event in world.events.pending("acme", START)]
    threads = Held()

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    async def run() -> list[Lost | None]:
        writer = Writer(world.events, threads, sleep=sleep)
        lanes: list[asyncio.Task[Any]] = []
        for change in changes[:CALLS_AT_ONCE]:
            lanes.append(asyncio.create_task(writer.write([change])))
            await turns(5)
        assert len(threads.given) == CALLS_AT_ONCE, "all calls are under way"
        threads.go_on()
        await turns(later)
        last = asyncio.create_task(writer.write(changes[-1:]))
        for _ in range(10):
            await turns(5)
            threads.go_on()
        assert last.done(), "nobody writes it"
        await writer.close()
        await asyncio.gather(*lanes)
        return await last

    assert asyncio.run(run()) == [None]
