import asyncio
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import make_dataclass
from enum import StrEnum
from threading import Barrier
from typing import Any

import pytest

from include.concurrency import GroupCommit, converted, task_group
from include.errors import AuthRefusedError, AwsUnavailableError


class HeldThreads(Executor):
    """Keeps what it is given until it is told to do it."""

    def __init__(self) -> None:
        self.given: list[Callable[[], None]] = []

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done = Future[T]()

        def run() -> None:
            try:
                done.set_result(fn(*args, **kwargs))
            except Exception as error:  # noqa: BLE001 - as an executor does
                done.set_exception(error)

        self.given.append(run)
        return done

    def go_on(self) -> None:
        given, self.given = self.given, []
        for each in given:
            each()


class Table:
    """What is committed to; a group with a number below zero is refused."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.pauses: list[float] = []

    def commit(self, group: list[int]) -> list[str]:
        if min(group) < 0:
            raise AwsUnavailableError("DynamoDB failed")
        self.groups.append(group)
        return [f"result {number}" for number in group]

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    def writer(
        self, threads: Executor, *, enough: float = 1, most: int = 25, calls_at_once: int = 1
    ) -> GroupCommit[int, str]:
        return GroupCommit(
            self.commit,
            threads,
            gather_seconds=0.5,
            enough=enough,
            most=most,
            calls_at_once=calls_at_once,
            sleep=self.sleep,
        )


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_the_first_error_of_a_task_group_is_raised_itself() -> None:
    async def fail() -> None:
        raise AuthRefusedError("refused") from ValueError("why")

    async def run() -> None:
        async with task_group() as tasks:
            tasks.create_task(asyncio.Event().wait())
            tasks.create_task(fail())

    with pytest.raises(AuthRefusedError, match="refused") as caught:
        asyncio.run(run())
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_of_the_block_itself_is_raised_itself() -> None:
    async def run() -> None:
        async with task_group() as tasks:
            tasks.create_task(asyncio.Event().wait())
            raise AuthRefusedError("refused")

    with pytest.raises(AuthRefusedError):
        asyncio.run(run())


async def test_changes_that_arrive_during_a_call_share_the_next_one() -> None:
    table, threads = Table(), HeldThreads()
    writer = table.writer(threads)
    writes = [asyncio.create_task(writer.write(number)) for number in range(3)]
    await turns(3)
    later = [asyncio.create_task(writer.write(number)) for number in (3, 4)]
    await turns(3)
    while not all(write.done() for write in [*writes, *later]):
        threads.go_on()
        await turns(3)
    assert ([await write for write in [*writes, *later]]) == [f"result {number}" for number in range(5)]
    assert table.groups == [[0, 1, 2], [3, 4]]


async def test_a_small_group_waits_for_more_and_a_large_one_does_not() -> None:
    table, threads = Table(), HeldThreads()
    writer = table.writer(threads, enough=2, most=3)
    for numbers in ([1], [2, 3, 4, 5]):
        writes = [asyncio.create_task(writer.write(number)) for number in numbers]
        while not all(write.done() for write in writes):
            await turns(5)
            threads.go_on()
    assert table.groups == [[1], [2, 3, 4], [5]]
    assert table.pauses == [0.5, 0.5], "before 1 and before 5"


async def test_only_the_group_that_failed_learns_of_it() -> None:
    table, threads = Table(), HeldThreads()
    writer = table.writer(threads, most=2)
    writes = [asyncio.create_task(writer.write(number)) for number in (1, -2, 3)]
    while not all(write.done() for write in writes):
        await turns(3)
        threads.go_on()
    first, second, third = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(first, AwsUnavailableError)
    assert first is second
    assert third == "result 3"


async def test_closing_commits_what_cancelled_tasks_wrote() -> None:
    table, threads = Table(), HeldThreads()
    writer = table.writer(threads)
    writes = [asyncio.create_task(writer.write(number)) for number in (1, 2)]
    await turns(3)
    for write in writes:
        write.cancel()
    closing = asyncio.create_task(writer.close())
    await turns(3)
    threads.go_on()
    await closing
    assert table.groups == [[1, 2]]


@pytest.mark.parametrize("later", range(12))
async def test_a_change_that_arrives_when_calls_end_is_committed(later: int) -> None:
    table, threads = Table(), HeldThreads()
    writer = table.writer(threads, enough=2, calls_at_once=2)
    first = []
    for number in (1, 2):
        first.append(asyncio.create_task(writer.write(number)))
        await turns(5)
    assert len(threads.given) == 2, "all calls are under way"
    threads.go_on()
    await turns(later)
    last = asyncio.create_task(writer.write(3))
    for _ in range(10):
        await turns(5)
        threads.go_on()
    assert last.done(), "it was left waiting"
    await asyncio.gather(*first)
    assert (await last) == "result 3"


def convert_to_new_classes() -> None:
    """What a process does once of each class, many times: six threads convert to one for the first time."""
    sys.setswitchinterval(1e-6)
    together = Barrier(6)
    with ThreadPoolExecutor(6) as threads:
        for _ in range(200):
            how = StrEnum("How", ["WELL"])
            kind: Any = make_dataclass("Done", [("item", int), ("how", how), ("reason", str | None)], frozen=True)

            def convert(_: int, kind: Any = kind) -> object:
                together.wait()
                return converted({"item": 1, "how": "well", "reason": None}, kind)

            assert set(threads.map(convert, range(6))) == {kind(1, how.WELL, None)}


def test_threads_convert_to_a_class_for_the_first_time_at_once() -> None:
    # In a process of its own, which may crash.
    process = multiprocessing.get_context("spawn").Process(target=convert_to_new_classes)
    process.start()
    process.join()
    assert process.exitcode == 0
