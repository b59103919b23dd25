"""What several pipelines do alike: one error out of a task group, one call for many changes, objects of JSON."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass
from typing import cast

import msgspec

_converting = threading.Lock()


def converted[T](found: object, kind: type[T]) -> T:
    """An object of JSON values as one of a dataclass, in any thread; raises as ``msgspec.convert``."""
    # That crashes the process where one thread converts to a class of which another has just begun to make a note, as
    # it does the first time: for enumerations, and dataclasses in dataclasses, it runs Python in between.
    with _converting:
        return msgspec.convert(found, kind)


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """As ``asyncio.TaskGroup``, but raises the first error itself.

    Retry policy, log and alert need the error and not a group of errors: its type decides, its text tells.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except ExceptionGroup as group:
        error = group.exceptions[0]
        raise error from error.__cause__


@dataclass
class GroupCommit[T, R]:
    """Commits the changes of many tasks in few calls: what arrives during a call goes into the next one.

    Args:
        commit: writes a group of changes and returns a result for each; blocks, so it is called in a thread.
        gather_seconds: how long a small group waits for more changes.
        enough: a group of so many does not wait.
        most: largest group.
        calls_at_once: calls of ``commit`` under way at the same time.
    """

    commit: Callable[[list[T]], Sequence[R]]
    threads: Executor
    _: KW_ONLY
    gather_seconds: float
    enough: float
    most: int = sys.maxsize
    calls_at_once: int = 1
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    def __post_init__(self) -> None:
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._committing: set[asyncio.Task[None]] = set()

    async def write(self, change: T) -> R:
        """Return the change's result when it is committed; raises what ``commit`` raised for its group."""
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, done))
        if len(self._committing) < self.calls_at_once:
            self._committing.add(asyncio.create_task(self._commit_waiting()))
        return await done

    async def close(self) -> None:
        """Commit what is waiting, even if the tasks that wrote it were cancelled."""
        await asyncio.gather(*self._committing, return_exceptions=True)

    async def _commit_waiting(self) -> None:
        try:
            while self._waiting:
                if len(self._waiting) < self.enough:
                    await self.sleep(self.gather_seconds)
                # Another call may have taken them all meanwhile.
                if group := [self._waiting.popleft() for _ in range(min(self.most, len(self._waiting)))]:
                    await self._commit_group(group)
        finally:
            # Here, not when the task is done a moment later: a change that arrives in between would be left waiting.
            self._committing.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _commit_group(self, group: list[tuple[T, asyncio.Future[R]]]) -> None:
        changes = [change for change, _ in group]
        try:
            results = await asyncio.get_running_loop().run_in_executor(self.threads, self.commit, changes)
        except Exception as error:  # noqa: BLE001 - raised where each change was written
            for _, done in group:
                if not done.done():
                    done.set_exception(error)
        else:
            for (_, done), result in zip(group, results, strict=True):
                if not done.done():
                    done.set_result(result)
