"""The supervisor with small real commands in place of the stack's services."""

import asyncio
import io
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from local.processes.layout import Layout
from local.processes.supervisor import Command, GuardedProcess, StackError, Supervisor


def shell(name: str, script: str) -> Command:
    return Command(name, ["sh", "-c", script], dict(os.environ), grace=1.0)


class Trial:
    """One supervised run and what it told."""

    def __init__(self, directory: Path, **options: float) -> None:
        self.layout = Layout(directory)
        self.report = io.StringIO()
        self.supervisor = Supervisor(self.layout, self.report, **options)
        self.seen: list[psutil.Process] = []
        self.asker: asyncio.Task[None] | None = None

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
        asyncio.get_running_loop().call_later(0.01, task.cancel)

    with pytest.raises(asyncio.CancelledError):
        trial.run(assemble)
    assert trial.events == ["ready", "stopping", "stopped"]
    trial.assert_nothing_left()
    assert not trial.layout.stack_file.exists()
    assert not trial.layout.environment_file.exists()


def test_who_asks_twice_to_stop_waits_until_all_has_stopped(trial: Trial) -> None:
    async def assemble(supervisor: Supervisor) -> None:
        await trial.start(supervisor, "steady", "exec sleep 300")
        trial.asker = asyncio.create_task(ask(asyncio.current_task()))

    async def ask(task: asyncio.Task[None]) -> None:
        for event in ("ready", "stopping"):
            while event not in trial.events:
                await asyncio.sleep(0)
            task.cancel()

    with pytest.raises(asyncio.CancelledError):
        trial.run(assemble)
    assert trial.events == ["ready", "stopping", "stopped"]
    trial.assert_nothing_left()


def test_steps_are_reported_with_their_seconds(trial: Trial) -> None:
    async def assemble(supervisor: Supervisor) -> None:
        async with supervisor.step("migration"):
            await supervisor.execute(shell("migrate", "true"))
        raise StackError("enough")

    with pytest.raises(StackError, match="enough"):
        trial.run(assemble)
    told = [json.loads(line) for line in trial.report.getvalue().splitlines()]
    assert told[0] == {"event": "started", "step": "migration"}
    assert told[1].keys() == {"event", "step", "seconds"}


def test_a_service_that_is_lost_is_replaced_up_to_a_limit_and_each_time_published_anew(tmp_path: Path) -> None:
    trial = Trial(tmp_path, most_replacements=2)
    published: list[int] = []

    async def assemble(supervisor: Supervisor) -> None:
        await trial.start(supervisor, "steady", "exec sleep 300")

        def lose() -> None:
            scheduler = supervisor.processes["scheduler"]
            trial.seen.append(psutil.Process(scheduler.pid))
            published.append(scheduler.service_pid)
            psutil.Process(scheduler.service_pid).kill()

        await supervisor.keep(shell("scheduler", "exec sleep 300"), replaced=lose)
        await supervisor.processes["scheduler"].begun()
        asyncio.get_running_loop().call_soon(lose)

    with pytest.raises(StackError, match="'scheduler' was killed by signal 9; it was replaced 2 times"):
        trial.run(assemble)
    assert len(set(published)) == 3
    assert trial.supervisor.replaced == {"scheduler": 2}
    assert trial.events.count("replaced") == 2
    trial.assert_nothing_left()


def test_a_service_that_is_lost_now_and_then_is_always_replaced(tmp_path: Path) -> None:
    trial = Trial(tmp_path, most_replacements=1, replacement_seconds=0)

    async def assemble(supervisor: Supervisor) -> None:
        def lose() -> None:
            if supervisor.replaced["scheduler"] == 3:
                raise StackError("enough")
            psutil.Process(supervisor.processes["scheduler"].service_pid).kill()

        await supervisor.keep(shell("scheduler", "exec sleep 300"), replaced=lose)
        await supervisor.processes["scheduler"].begun()
        asyncio.get_running_loop().call_soon(lose)

    with pytest.raises(StackError, match="enough"):
        trial.run(assemble)
    trial.assert_nothing_left()


@pytest.mark.parametrize(("script", "ready"), [("exit 1", True), ("kill -9 $$", False)])
def test_a_service_that_gives_up_as_it_starts_or_dies_before_the_stack_is_ready_is_not_replaced(
    tmp_path: Path, script: str, ready: bool
) -> None:
    trial, go_on = Trial(tmp_path, hopeless_seconds=3600.0), tmp_path / "told"

    async def assemble(supervisor: Supervisor) -> None:
        waits = f"until [ -e '{go_on}' ]; do sleep 0.05; done"
        await supervisor.keep(shell("worker", f"echo no such broker; {waits}; {script}"), replaced=lambda: None)
        # When this has ended, and the stack is ready, or waits below.
        asyncio.get_running_loop().call_soon(go_on.touch)
        if not ready:
            await asyncio.Event().wait()

    with pytest.raises(StackError, match=r"(?s)'worker'.*no such broker"):
        trial.run(assemble)
    assert "replaced" not in trial.events
    assert ("ready" in trial.events) == ready


def test_a_starter_that_no_longer_listens_changes_nothing(trial: Trial) -> None:
    trial.report.close()
    trial.supervisor.tell("ready")


async def test_a_service_that_has_ended_still_has_an_id_for_whoever_publishes_all(tmp_path: Path) -> None:
    process = await GuardedProcess.start(shell("frail", "exit 0"), tmp_path / "frail.log")
    await process.wait()
    assert process.service_pid == process.pid
