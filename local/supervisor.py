"""The owner of a stack's processes: starts them, notices when one dies, and leaves nothing behind.

There is no half-alive stack: when a service ends by itself, everything is stopped. Only a service of which there are
several is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TextIO

from local.guard import end_tree
from local.layout import Layout
from local.processes import Command, GuardedProcess, ServiceDiedError, StackError, run_step

HOPELESS_SECONDS = 15.0


class Supervisor:
    """Holds the processes of one stack."""

    def __init__(self, layout: Layout, report: TextIO) -> None:
        self.layout = layout
        self.processes: dict[str, GuardedProcess] = {}
        self._report = report
        self._watches = asyncio.TaskGroup()

    async def run(self, assemble: Callable[[Supervisor], Awaitable[object]]) -> None:
        """Start the stack with `assemble` and keep it until this task is cancelled.

        Raises:
            StackError: a step failed or a service died; everything has been stopped by then.
        """
        try:
            async with self._watches:
                await assemble(self)
                self.tell("ready")
                await asyncio.Event().wait()
        except* StackError as group:
            raise _first(group) from None
        finally:
            await asyncio.shield(self._stop_all())

    def tell(self, event: str, **details: Any) -> None:
        """Send one event to the starter, if it still listens, and to the log."""
        line = json.dumps({"event": event, **details})
        print(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {line}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError, ValueError):
            print(line, file=self._report, flush=True)

    @contextlib.asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        """Report how long the body takes under this name."""
        self.tell("started", step=name)
        began = time.monotonic()
        yield
        self.tell("done", step=name, seconds=round(time.monotonic() - began, 1))

    async def start(self, command: Command) -> GuardedProcess:
        """Start a service; from now on its end is the end of the stack."""
        process = await self._launch(command)
        self._watches.create_task(process.watch())
        return process

    async def keep(self, command: Command, *, replaced: Callable[[], None]) -> None:
        """Start a service of which others have the like: one that is lost is replaced, as a cluster does.

        `replaced` is called whenever another process has taken its place. One that ends within
        `HOPELESS_SECONDS` of its start will do so again: its end is the end of the stack.
        """
        await self._launch(command)
        self._watches.create_task(self._replace(command, replaced))

    async def execute(self, command: Command) -> None:
        """Run a command of the start-up to its end; raises StackError if it fails."""
        await run_step(command, self.layout.log(command.name))

    async def _launch(self, command: Command) -> GuardedProcess:
        process = await GuardedProcess.start(command, self.layout.log(command.name))
        self.processes[command.name] = process
        return process

    async def _replace(self, command: Command, replaced: Callable[[], None]) -> None:
        while True:
            process = self.processes[command.name]
            began = time.monotonic()
            code = await process.wait()
            if time.monotonic() - began < HOPELESS_SECONDS:
                raise ServiceDiedError(command.name, code, process.log)
            self.tell("replaced", service=command.name, code=code)
            await (await self._launch(command)).begun()
            replaced()

    async def _stop_all(self) -> None:
        """Stop in the reverse order of starting: what was started together is stopped together."""
        self.layout.stack_file.unlink(missing_ok=True)
        self.layout.environment_file.unlink(missing_ok=True)
        self.tell("stopping")
        # Airflow first, what it writes to last.
        last = [self.processes.pop(name) for name in ("redis", "postgres") if name in self.processes]
        await asyncio.gather(*(process.stop() for process in self.processes.values()))
        await asyncio.gather(*(process.stop() for process in last))
        # What a killed guard may have left was handed to this process.
        end_tree(None, stop_signal=signal.SIGTERM, grace=1.0)
        self.tell("stopped")


def _first(group: BaseExceptionGroup[StackError]) -> StackError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, StackError)
    return error
