"""Brings the changes of many lanes into few calls: a call costs more than a post does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import cast

from include.delivery.changes import Change, Lost
from include.delivery.events import GROUP, EventTable

GATHER_SECONDS = 0.03
"""How long a change waits for company. Only claims, and the last outcome of each, are waited for in their turn."""

CALLS_AT_ONCE = 2


class Writer:
    """Writes changes of one table.

    Args:
        table: the table.
        threads: where its calls are made.
        sleep: as ``asyncio.sleep``.
    """

    def __init__(
        self,
        table: EventTable,
        threads: Executor,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._table = table
        self._threads = threads
        self._sleep = sleep
        self._waiting: deque[tuple[Change, asyncio.Future[Lost | None]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()

    async def write(self, changes: Sequence[Change]) -> list[Lost | None]:
        """Make changes of different events.

        Returns:
            for each None when it is made, or what is there instead.

        Raises:
            AwsUnavailableError: a retry may work; changes may have been made.
            AwsRefusedError: it will not.
        """
        loop = asyncio.get_running_loop()
        mine = [(change, loop.create_future()) for change in changes]
        self._waiting.extend(mine)
        if len(self._calls) < CALLS_AT_ONCE:
            self._calls.add(asyncio.create_task(self._write()))
        return list(await asyncio.gather(*(done for _, done in mine)))

    async def close(self) -> None:
        """Let what is waiting be written, also when whoever waited was cancelled: it says what was posted."""
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _write(self) -> None:
        try:
            await self._write_waiting()
        finally:
            # Not when the task is done, which is a moment later: a change that came between would wait for nobody.
            self._calls.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _write_waiting(self) -> None:
        while self._waiting:
            if len(self._waiting) < GROUP:
                await self._sleep(GATHER_SECONDS)
            group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            if not group:
                return
            try:
                results = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._table.change, [change for change, _ in group]
                )
            except Exception as error:  # noqa: BLE001 - whoever waits raises it
                for _, done in group:
                    if not done.done():
                        done.set_exception(error)
            else:
                for (_, done), result in zip(group, results, strict=True):
                    if not done.done():
                        done.set_result(result)
