"""The owner of a stack's processes: starts them, notices when one dies, and leaves nothing behind.

There is no half-alive stack: when a service ends by itself, everything is stopped. Only a service that keeps nothing in
memory is replaced, as a cluster would. Each process is under a guard (see `local.processes.guard`) and has its own log
file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import psutil

from local.processes.guard import end_tree
from local.processes.layout import PROJECT_ROOT, PYTHON, Layout

_TAIL_LINES = 25
_TAIL_BYTES = 16_384
_GUARD_EXTRA_SECONDS = 10.0
_POLL_SECONDS = 0.05
_SIGNALLED = 128
"""Added to the number of the signal that killed a command, as shells do."""


class StackError(Exception):
    """The stack cannot start or go on; the message says what is wrong and what to do."""


class ServiceDiedError(StackError):
    """A service ended although nobody asked it to."""

    def __init__(self, service: str, code: int, log: Path, *, replaced: int = 0) -> None:
        how = f"was killed by signal {code - _SIGNALLED}" if code > _SIGNALLED else f"ended with exit code {code}"
        often = f"; it was replaced {replaced} times" if replaced else ""
        super().__init__(f"service '{service}' {how}{often}\n{describe_log(log)}")
        self.service = service


@dataclass(frozen=True, slots=True)
class Command:
    """One command to run under a guard.

    Attributes:
        name: the service's or step's name, also the stem of its log file.
        arguments: program and arguments.
        environment: the complete environment.
        stop_signal: what the program understands as "stop now": TERM or INT.
        grace: seconds between the stop signal and SIGKILL.
        user: run as this user (only when the supervisor is root).
        remove: directories to delete when the program has ended, however it ended.
    """

    name: str
    arguments: Sequence[str | Path]
    environment: Mapping[str, str]
    stop_signal: str = "TERM"
    grace: float = 8.0
    user: str | None = None
    remove: Sequence[Path] = field(default_factory=tuple)


class GuardedProcess:
    """A running guard and the command under it."""

    def __init__(self, command: Command, process: Process, log: Path) -> None:
        self.command = command
        self.log = log
        self._process = process

    @classmethod
    async def start(cls, command: Command, log: Path) -> GuardedProcess:
        """Start `command`; its output is appended to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        options = ["--stop-signal", command.stop_signal, "--grace", str(command.grace)]
        if command.user:
            options += ["--user", command.user]
        for directory in command.remove:
            options += ["--remove", str(directory)]
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                PYTHON, "-m", "local.processes.guard", *options, "--", *map(str, command.arguments),
                stdin=PIPE, stdout=output, stderr=output,
                cwd=PROJECT_ROOT, env=dict(command.environment), start_new_session=True,
            )  # fmt: skip
        return cls(command, process, log)

    @property
    def pid(self) -> int:
        """Process id of the guard; the command is its child."""
        return self._process.pid

    @property
    def service_pid(self) -> int:
        """Process id of the command itself: the guard's first child; the guard's own while it has none."""
        try:
            children = psutil.Process(self.pid).children()
            return min(children, key=psutil.Process.create_time).pid if children else self.pid
        except psutil.NoSuchProcess:  # one of two services that are replaced at the same time
            return self.pid

    async def begun(self) -> None:
        """Wait until the guard has started the command, or has ended."""
        while self._process.returncode is None and self.service_pid == self.pid:
            await asyncio.sleep(_POLL_SECONDS)

    async def wait(self) -> int:
        """Wait for the command to end; returns its exit code."""
        return await self._process.wait()

    async def watch(self) -> None:
        """Wait until the command ends, which it should not; raises ServiceDiedError then."""
        raise ServiceDiedError(self.command.name, await self.wait(), self.log)

    async def stop(self) -> None:
        """End the command with everything it started, and wait until all is gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()  # the guard reads end of file and stops
        try:
            async with asyncio.timeout(self.command.grace + _GUARD_EXTRA_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


async def capture(arguments: Sequence[str | Path], *, user: str | None = None) -> int:
    """Run a short command without output; returns its exit code."""
    process = await asyncio.create_subprocess_exec(
        *map(str, arguments), stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, user=user
    )
    return await process.wait()


def describe_log(log: Path) -> str:
    """The last lines of a log, with its path, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
    except OSError:
        lines = []
    tail = "\n".join(f"  | {line}" for line in lines) or "  | (nothing)"
    return f"last lines of {log}:\n{tail}"


HOPELESS_SECONDS = 15.0
MOST_REPLACEMENTS = 20
"""Of one service in ``REPLACEMENT_SECONDS``."""
REPLACEMENT_SECONDS = 900.0


class Supervisor:
    """Holds the processes of one stack.

    A service that is replaced when it ends ends the stack nevertheless before the stack is ready, if it gives up by
    itself within ``hopeless_seconds`` of its start, or after ``most_replacements`` within
    ``replacement_seconds``.

    Attributes:
        processes: by service.
        replaced: how often each service was replaced.
    """

    def __init__(
        self,
        layout: Layout,
        report: TextIO,
        *,
        hopeless_seconds: float = HOPELESS_SECONDS,
        most_replacements: int = MOST_REPLACEMENTS,
        replacement_seconds: float = REPLACEMENT_SECONDS,
    ) -> None:
        self.layout = layout
        self.processes: dict[str, GuardedProcess] = {}
        self.replaced: Counter[str] = Counter()
        self._ready = False
        self._report = report
        self._hopeless_seconds = hopeless_seconds
        self._most_replacements = most_replacements
        self._replacement_seconds = replacement_seconds
        self._watches = asyncio.TaskGroup()

    async def run(self, assemble: Callable[[Supervisor], Awaitable[object]]) -> None:
        """Start the stack with `assemble` and keep it until this task is cancelled.

        Raises:
            StackError: a step failed or a service died; everything has been stopped by then.
        """
        try:
            async with self._watches:
                await assemble(self)
                self._ready = True
                self.tell("ready")
                await asyncio.Event().wait()
        except* StackError as group:
            raise _first(group) from None
        finally:
            await _to_its_end(asyncio.create_task(self._stop_all()))

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
        """Start a service that is replaced when it is lost.

        `replaced` is called whenever another process has taken its place.
        """
        await self._launch(command)
        self._watches.create_task(self._replace(command, replaced))

    async def execute(self, command: Command) -> None:
        """Run a command of the start-up to its end.

        Raises:
            StackError: its exit code is not 0; the message holds the end of its log.
        """
        process = await GuardedProcess.start(command, self.layout.log(command.name))
        try:
            code = await process.wait()
        finally:
            await process.stop()
        if code != 0:
            raise StackError(f"'{command.name}' failed with exit code {code}\n{describe_log(process.log)}")

    async def _launch(self, command: Command) -> GuardedProcess:
        process = await GuardedProcess.start(command, self.layout.log(command.name))
        self.processes[command.name] = process
        return process

    async def _replace(self, command: Command, replaced: Callable[[], None]) -> None:
        latest = deque[float](maxlen=self._most_replacements)
        while True:
            process = self.processes[command.name]
            began = time.monotonic()
            code = await process.wait()
            gave_up = code <= _SIGNALLED and time.monotonic() - began < self._hopeless_seconds
            too_often = len(latest) == latest.maxlen and time.monotonic() - latest[0] < self._replacement_seconds
            if not self._ready or gave_up or too_often:
                raise ServiceDiedError(command.name, code, process.log, replaced=self.replaced[command.name])
            latest.append(time.monotonic())
            self.replaced[command.name] += 1
            self.tell("replaced", service=command.name, code=code, times=self.replaced[command.name])
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


async def _to_its_end(task: asyncio.Task[None]) -> None:
    """Wait for a task, however often the one that waits is cancelled, as by a second `make down`."""
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()


def _first(group: BaseExceptionGroup[StackError]) -> StackError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, StackError)
    return error
