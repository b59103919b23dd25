"""The supervisor with small real commands in place of the stack's services."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from local.processes.layout import Layout
from local.processes.supervisor import Command, StackError, Supervisor


def shell(name: str, script: str) -> Command:
    return Command(name, ["sh", "-c", script], dict(os.environ), grace=1.0)


class Trial:
    """One supervised run and what it told."""

    def __init__(self, directory: Path, **options: float) -> None:
        self.layout = Layout(directory)
        self.report = io.StringIO()
        self.supervisor = Supervisor(self.layout, self.report, **options)
        self.seen: list[psutil.Process] = []

    def run(self, assemble: Callable[[Supervisor], Awaitable[object]]) -> None:
        asyncio.run(self.supervisor.run(assemble))

    async def start(self, supervisor: Supervisor, name: str, script: str) -> None:
        process = await supervisor.start(shell(name, script))
        self.seen.append(psutil.Process(process.pid))

    @property
    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.report.getvalue().splitlines()]

    def assert_nothing_left(self) -> None:
        assert not [process for process in self.seen if process.is_running()]


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


def test_a_service_that_dies_is_named_and_stops_the_others(trial: Trial) -> None:
    async def assemble(supervisor: Supervisor) -> None:
        await trial.start(supervisor, "steady", "exec sleep 300")
        await trial.start(supervisor, "frail", "echo what went wrong; exit 9")

    with pytest.raises(StackError) as error:
        trial.run(assemble)
    for part in ("'frail'", "exit code 9", "what went wrong", str(trial.layout.log("frail"))):
        assert part in str(error.value)
    trial.assert_nothing_left()
    assert trial.events[-2:] == ["stopping", "stopped"]


def test_a_service_that_dies_long_before_the_start_is_complete_ends_the_start(trial: Trial) -> None:
    async def assemble(supervisor: Supervisor) -> None:
        await trial.start(supervisor, "frail", "exit 1")
        await asyncio.Event().wait()

    with pytest.raises(StackError, match="'frail'"):
        trial.run(assemble)
    assert "ready" not in trial.events


def test_a_failed_step_gives_its_log_and_stops_what_runs(trial: Trial) -> None:
    async def assemble(supervisor: Supervisor) -> None:
        await trial.start(supervisor, "steady", "exec sleep 300")
        await supervisor.execute(shell("deploy", "echo template is wrong >&2; exit 3"))

    with pytest.raises(StackError, match=r"(?s)'deploy' failed with exit code 3.*template is wrong"):
        trial.run(assemble)
    trial.assert_nothing_left()


def test_cancelling_stops_everything_and_removes_the_published_files(trial: Trial) -> None:
    async def assemble(supervisor: Supervisor) -> None:
        await trial.start(supervisor, "postgres", "exec sleep 300")
        await trial.start(supervisor, "steady", "exec sleep 300")
        trial.layout.stack_file.write_text("{}")
        trial.layout.environment_file.write_text("")
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.01, task.cancel)

    with pytest.raises(asyncio.CancelledError):
        trial.run(assemble)
    assert trial.events == ["ready", "stopping", "stopped"]
    trial.assert_nothing_left()
    assert not trial.layout.stack_file.exists()
    assert not trial.layout.environment_file.exists()


def test_steps_are_told_with_their_seconds(trial: Trial) -> None:
    async def assemble(supervisor: Supervisor) -> None:
        async with supervisor.step("migration"):
            await supervisor.execute(shell("migrate", "true"))
        raise StackError("enough")

    with pytest.raises(StackError, match="enough"):
        trial.run(assemble)
    told = [json.loads(line) for line in trial.report.getvalue().splitlines()]
    assert told[0] == {"event": "started", "step": "migration"}
    assert told[1].keys() == {"event", "step", "seconds"}


def test_a_service_of_several_is_replaced_and_published_anew(tmp_path: Path) -> None:
    trial = Trial(tmp_path, hopeless_seconds=0.0)
    seen: list[int] = []

    async def assemble(supervisor: Supervisor) -> None:
        replaced = asyncio.Event()
        await trial.start(supervisor, "steady", "exec sleep 300")
        await supervisor.keep(shell("worker", "exec sleep 300"), replaced=replaced.set)
        worker = supervisor.processes["worker"]
        await worker.begun()
        seen.append(worker.service_pid)
        psutil.Process(worker.service_pid).kill()
        await replaced.wait()
        worker = supervisor.processes["worker"]
        seen.append(worker.service_pid)
        trial.seen.append(psutil.Process(worker.pid))
        assert all(process.is_running() for process in trial.seen)
        raise StackError("enough")

    with pytest.raises(StackError, match="enough"):
        trial.run(assemble)
    assert len(set(seen)) == 2
    assert "replaced" in trial.events
    trial.assert_nothing_left()


def test_a_service_that_dies_as_it_starts_is_not_replaced_for_ever(trial: Trial) -> None:
    async def assemble(supervisor: Supervisor) -> None:
        await supervisor.keep(shell("worker", "echo no such broker; exit 1"), replaced=lambda: None)
        await asyncio.Event().wait()

    with pytest.raises(StackError, match=r"(?s)'worker'.*no such broker"):
        trial.run(assemble)
    assert "replaced" not in trial.events


def test_a_starter_that_no_longer_listens_changes_nothing(trial: Trial) -> None:
    trial.report.close()
    trial.supervisor.tell("ready")
