"""Real processes: whatever ends, and however, nothing of a guarded command is left."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local.processes.layout import PROJECT_ROOT

GONE_WITHIN_SECONDS = 60.0
STARTER = """
import subprocess, sys
guard = subprocess.Popen([sys.executable, "-m", "local.processes.guard", *sys.argv[1:]], stdin=subprocess.PIPE)
guard.wait()
"""
# A command with a child, a daemonised grandchild in a session of its own, and one whose parent ended at once.
FAMILY = """
trap '' HUP
sleep 300 & echo child $!
setsid sh -c 'echo daemon $$; exec sleep 300' &
sh -c 'sleep 300 & echo orphan $!'
echo command $$
wait
"""
MEMBERS = {"child", "daemon", "orphan", "command"}
STUBBORN = "trap '' TERM; echo command $$; while :; do sleep 300; done"


def guard_arguments(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "local.processes.guard", *arguments]


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT, start_new_session=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_family(process: subprocess.Popen[str], members: set[str] = MEMBERS) -> list[psutil.Process]:
    """The processes that announced themselves on standard output."""
    assert process.stdout is not None
    found: dict[str, psutil.Process] = {}
    while found.keys() != members:
        name, pid = process.stdout.readline().split()
        found[name] = psutil.Process(int(pid))
    return list(found.values())


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=GONE_WITHIN_SECONDS)
    try:
        assert alive == []
    finally:
        for process in alive:
            process.kill()


def test_end_of_the_lifeline_ends_the_whole_family() -> None:
    with started(guard_arguments("--", "sh", "-c", FAMILY)) as guard:
        family = read_family(guard)
        assert all(process.is_running() for process in family)
        guard.stdin.close()
        assert_gone(family)
        assert guard.wait() == 143


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_signal_to_the_guard_ends_the_whole_family(number: signal.Signals) -> None:
    with started(guard_arguments("--", "sh", "-c", FAMILY)) as guard:
        family = read_family(guard)
        guard.send_signal(number)
        assert_gone(family)
        assert guard.wait() == 143


def test_a_killed_starter_takes_the_whole_family_with_it() -> None:
    with started([sys.executable, "-c", STARTER, "--", "sh", "-c", FAMILY]) as starter:
        family = read_family(starter)
        guards = psutil.Process(starter.pid).children()
        starter.kill()
        assert_gone(family + guards)


if sys.platform == "linux":  # no other system tells a child of its parent's death

    def test_a_killed_guard_takes_the_command_with_it() -> None:
        command = "echo command $$; exec sleep 300"
        with started(guard_arguments("--", "sh", "-c", command)) as guard:
            family = read_family(guard, {"command"})
            guard.kill()
            assert_gone(family)


def test_the_commands_own_end_gives_its_exit_code_and_ends_what_it_left(tmp_path: Path) -> None:
    go_on = tmp_path / "seen"
    command = f"sleep 300 & echo child $!; until [ -e '{go_on}' ]; do sleep 0.05; done; exit 7"
    with started(guard_arguments("--", "sh", "-c", command)) as guard:
        family = read_family(guard, {"child"})
        go_on.touch()
        assert guard.wait() == 7
        assert_gone(family)


def test_a_command_killed_by_a_signal_is_reported_as_shells_do() -> None:
    with started(guard_arguments("--", "sh", "-c", "kill -KILL $$")) as guard:
        assert guard.wait() == 128 + signal.SIGKILL


def test_a_command_that_ignores_the_stop_signal_is_killed_after_the_grace() -> None:
    with started(guard_arguments("--grace", "0.2", "--", "sh", "-c", STUBBORN)) as guard:
        family = read_family(guard, {"command"})
        guard.terminate()
        assert_gone(family)


def test_the_chosen_stop_signal_reaches_the_command() -> None:
    command = "trap 'echo interrupted 0; exit' INT; echo command $$; while :; do sleep 0.05; done"
    with started(guard_arguments("--stop-signal", "INT", "--", "sh", "-c", command)) as guard:
        read_family(guard, {"command"})
        guard.terminate()
        assert guard.stdout.readline() == "interrupted 0\n"


def test_directories_to_remove_are_gone_when_the_guard_is(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    (scratch / "inner").mkdir(parents=True)
    with started(guard_arguments("--remove", str(scratch), "--", "sh", "-c", FAMILY)) as guard:
        read_family(guard)
        assert scratch.exists()
        guard.terminate()
        guard.wait()
        assert not scratch.exists()


def test_a_command_that_cannot_start_is_named() -> None:
    done = subprocess.run(
        guard_arguments("--", "/no/such/program"), cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 127
    assert "cannot start /no/such/program" in done.stderr


def test_the_command_gets_no_hand_on_the_lifeline() -> None:
    # A command that reads its standard input must not take the guard's end of file, nor wait for it.
    with started(guard_arguments("--", "sh", "-c", "cat; echo command $$")) as guard:
        read_family_line = guard.stdout.readline() if guard.stdout else ""
        assert read_family_line.startswith("command ")
        assert guard.wait() == 0


def test_the_guard_does_not_inherit_its_callers_session() -> None:
    with started(guard_arguments("--", "sh", "-c", "echo command $$; exec sleep 300")) as guard:
        (command,) = read_family(guard, {"command"})
        assert os.getsid(command.pid) == command.pid != os.getsid(guard.pid)
