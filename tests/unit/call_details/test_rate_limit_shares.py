"""ConcurrencyLimiter shared out among several tasks: what each may have, and that it comes to that."""

import asyncio
import threading
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.call_details.rate_limit import CALL_SECONDS, RENEW_SECONDS, ConcurrencyLimiter, PermitLease, fair_share
from include.clients.dynamodb import ItemTable
from tests.worlds.call_details import FakeTime
from tests.worlds.dynamodb import TABLE, FakeLedgerTable


@given(st.integers(1, 60), st.dictionaries(st.text("abc", max_size=3), st.integers(1, 60), min_size=1))
def test_shares_are_the_limit_and_nobody_has_more_at_the_cost_of_another(limit: int, wishes: dict[str, int]) -> None:
    shares = {name: fair_share(limit, name, wishes) for name in wishes}
    assert sum(shares.values()) == min(limit, sum(wishes.values()))
    most = max(shares.values())
    assert all(shares[name] in (wishes[name], most, most - 1) for name in wishes)


def test_modest_ones_leave_the_rest_to_the_others() -> None:
    wishes = dict.fromkeys("bcdefgh", 1) | {"a": 25}
    assert fair_share(50, "a", wishes) == 25
    assert fair_share(20, "a", wishes) == 13


@dataclass
class Task:
    """One holder, and its calls that are under way: when each ends at the latest."""

    held: PermitLease
    calls: list[tuple[AsyncExitStack, float]] = field(default_factory=list)
    alive: bool = True

    async def begin(self, ends_at: float) -> None:
        """Begin a call, if it may."""
        stack = AsyncExitStack()
        entering = asyncio.create_task(stack.enter_async_context(self.held.permit()))
        for _ in range(5):
            await asyncio.sleep(0)
        if entering.done():
            self.calls.append((stack, ends_at))
        else:
            entering.cancel()
            await asyncio.gather(entering, return_exceptions=True)

    async def end(self) -> None:
        """End the oldest call."""
        if self.calls:
            stack, _ = self.calls.pop(0)
            await stack.aclose()


class World:
    """Some tasks, as on machines of their own."""

    def __init__(self, limit: int, tasks: int) -> None:
        self.time = FakeTime()
        self.limit = limit
        self.fake = FakeLedgerTable()
        self.table = ItemTable(self.fake, TABLE)
        self.tasks = [self.task(wish=9 + number) for number in range(tasks)]
        self.dead: list[float] = []

    def task(self, wish: int) -> Task:
        permits = ConcurrencyLimiter(self.table, "calls", self.limit, clock=self.time, sleep=self.time.sleep)
        return Task(PermitLease(permits, wish))

    @property
    def calls(self) -> int:
        """How many the server may see: those of a dead task last until their deadline."""
        dead = sum(ends_at > self.time.now for ends_at in self.dead)
        return dead + sum(len(task.calls) for task in self.tasks)

    async def renew(self, task: Task, calls: int) -> None:
        """Ask the table, and try to begin calls while it is being written."""
        begun = threading.Event()
        self.fake.before["put_item"] = lambda: begun.wait() and None
        renewing = asyncio.create_task(task.held.renew())
        for _ in range(calls):
            await task.begin(self.time.now + CALL_SECONDS)
        begun.set()
        await renewing
        self.fake.before.clear()

    async def step(self, action: str, number: int, amount: int) -> None:
        task = self.tasks[number]
        match action:
            case "renew":
                await self.renew(task, calls=amount)
            case "call":
                for _ in range(amount):
                    await task.begin(self.time.now + CALL_SECONDS)
            case "end":
                for _ in range(amount):
                    await task.end()
            case "wait":
                self.time.now += amount * 20
                for each in self.tasks:
                    while each.calls and each.calls[0][1] <= self.time.now:
                        await each.end()
            case "die":
                self.dead += [ends_at for _, ends_at in task.calls]
                self.tasks[number] = self.task(wish=amount)


ACTIONS = st.sampled_from(["renew", "renew", "renew", "renew", "call", "call", "end", "wait", "die"])


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 9), st.lists(st.tuples(ACTIONS, st.integers(0, 2), st.integers(1, 8)), max_size=60))
def test_never_more_calls_than_the_limit_whoever_comes_goes_or_dies(
    limit: int, steps: list[tuple[str, int, int]]
) -> None:
    async def run() -> None:
        world = World(limit, tasks=3)
        for action, number, amount in steps:
            await world.step(action, number, amount)
            assert world.calls <= limit

    asyncio.run(run())


async def test_what_is_being_given_back_is_not_used_any_more() -> None:
    world = World(50, tasks=0)
    first, second = world.task(wish=50), world.task(wish=50)
    for task in (first, second, first):
        await task.held.renew()
    assert first.held.count == 50
    await world.renew(first, calls=50)
    assert (first.held.count, len(first.calls)) == (25, 25)


@pytest.mark.parametrize("busy", [False, True])
async def test_who_comes_later_has_a_share_soon(busy: bool) -> None:
    """Whether the first are busy or not: a call in use is waited for, and no other begins as soon as it ends."""
    world = World(50, tasks=0)
    first = [world.task(wish=25) for _ in range(2)]
    started = world.time.now
    for task in first:
        await task.held.renew()
        for _ in range(25 if busy else 0):
            await task.begin(started + CALL_SECONDS)
    late = world.task(wish=13)
    await late.held.renew()
    assert late.held.count == 0
    world.time.now += RENEW_SECONDS
    for task in first:
        await task.held.renew()
        for _ in range(10):
            await task.end()
            if busy:
                await task.begin(started + CALL_SECONDS)
        await task.held.renew()
    await late.held.renew()
    assert late.held.count == 13
    assert sum(task.held.count for task in first) == 37
