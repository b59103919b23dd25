"""Starting and stopping a stack from another process: the command line, the demo, tests and benchmarks."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from local.airflow_options import DEFAULT_EXECUTOR, Executor
from local.broker import require_packages
from local.environment import clean_environment
from local.layout import DEFAULT_STATE_DIRECTORY, PROJECT_ROOT, PYTHON, Layout
from local.ports import PortRequest, choose_ports
from local.processes import StackError
from local.stack import Stack, running_supervisor

_STOP_SECONDS = 60.0

Event = Mapping[str, Any]
"""What the supervisor tells while it works: `event` is started, done, ready, failed, stopping or stopped."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """How to start a stack.

    Ports that are None are chosen: for Airflow `preferred_airflow_port` if it is given and free, else any free port.
    A preference is for stacks that people start one at a time: of two that start together, both may find it free.
    `executor` is what runs the tasks: Airflow's scheduler itself, or two Celery workers that a Redis gives them to.
    `airflow_options` are Airflow configuration options of this stack alone, as environment variables
    (`AIRFLOW__SECTION__OPTION`).
    """

    state_directory: Path = DEFAULT_STATE_DIRECTORY
    airflow_port: int | None = None
    aws_port: int | None = None
    partners_port: int | None = None
    executor: Executor = DEFAULT_EXECUTOR
    preferred_airflow_port: int | None = None
    airflow_options: Mapping[str, str] = field(default_factory=dict)

    def port_requests(self) -> list[PortRequest]:
        """The ports as `choose_ports` wants them."""
        return [
            PortRequest(
                "airflow",
                "--airflow-port",
                "AIRFLOW_PORT",
                fixed=self.airflow_port,
                preferred=self.preferred_airflow_port,
            ),
            PortRequest("aws", "--aws-port", "AWS_PORT", fixed=self.aws_port),
            PortRequest("partners", "--partners-port", "PARTNERS_PORT", fixed=self.partners_port),
        ]


@contextlib.contextmanager
def running_stack(
    options: StackOptions | None = None, *, on_event: Callable[[Event], None] = lambda _: None
) -> Iterator[Stack]:
    """A stack for the duration of a `with` block; it stops at the end, also when this process is killed.

    Args:
        options: state directory and ports; give tests a state directory of their own.
        on_event: called with each event of the start-up.

    Raises:
        StackError: one is running with this state directory, or a step of the start-up failed.
        PortError: a fixed port cannot be had.
    """
    options = options or StackOptions()
    supervisor = _start(options, on_event)
    try:
        yield Stack.read(options.state_directory.resolve())
    finally:
        _close(supervisor)


def start_detached(options: StackOptions, *, on_event: Callable[[Event], None] = lambda _: None) -> Stack:
    """Start a stack that runs on when this process ends (`make up`). Raises as `running_stack` does."""
    supervisor = _start(options, on_event)
    try:
        stack = Stack.read(options.state_directory.resolve())
        assert supervisor.stdin is not None
        supervisor.stdin.write("detach\n")
        supervisor.stdin.flush()
    except BaseException:
        _close(supervisor)
        raise
    return stack


def stop(state_directory: Path = DEFAULT_STATE_DIRECTORY) -> bool:
    """Stop the stack of this state directory and wait until nothing is left of it.

    Returns:
        False when none was running.

    Raises:
        StackError: it did not stop in time.
    """
    pid = running_supervisor(Layout(state_directory.resolve()))
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        process.send_signal(signal.SIGTERM)
        process.wait(_STOP_SECONDS)
    except psutil.NoSuchProcess:
        pass
    except psutil.TimeoutExpired:
        raise StackError(f"the supervisor (pid {pid}) did not stop in {_STOP_SECONDS:.0f} s: see its log") from None
    return True


def _start(options: StackOptions, on_event: Callable[[Event], None]) -> subprocess.Popen[str]:
    layout = Layout(options.state_directory.resolve())
    if running_supervisor(layout) is not None:
        url = f" at {_airflow_url(layout)}" if layout.stack_file.exists() else " (still starting)"
        raise StackError(f"a stack is already running in {layout.root}{url}: 'make down' stops it")
    if options.executor == "CeleryExecutor":
        require_packages()
    ports = choose_ports(options.port_requests())
    _clear(layout)
    with layout.log("supervisor").open("ab") as log:
        supervisor = subprocess.Popen(
            [
                PYTHON, "-m", "local.supervise", "--state-dir", layout.root, "--ports", json.dumps(ports),
                "--executor", options.executor, "--airflow-options", json.dumps(dict(options.airflow_options)),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            cwd=PROJECT_ROOT, env=clean_environment(), start_new_session=True,
        )  # fmt: skip
    try:
        assert supervisor.stdout is not None
        for line in supervisor.stdout:
            event = json.loads(line)
            on_event(event)
            if event["event"] == "ready":
                return supervisor
            if event["event"] == "failed":
                raise StackError(event["error"])
        raise StackError(f"the supervisor ended unexpectedly: see {layout.log('supervisor')}")
    except BaseException:
        _close(supervisor)
        raise


def _close(supervisor: subprocess.Popen[str]) -> None:
    """Let go of the supervisor, which makes it stop the stack, and wait for it."""
    assert supervisor.stdin is not None
    with contextlib.suppress(OSError):
        supervisor.stdin.close()
    try:
        supervisor.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
    if supervisor.stdout is not None:
        supervisor.stdout.close()


def _clear(layout: Layout) -> None:
    """Remove what the last stack left: each start begins from nothing."""
    for directory in (layout.logs, layout.airflow_home, layout.build, layout.root / "emulator"):
        shutil.rmtree(directory, ignore_errors=True)
    for file in (layout.stack_file, layout.failed_file, layout.environment_file, layout.client_database):
        file.unlink(missing_ok=True)
    for directory in (layout.root, layout.logs, layout.root / "emulator"):
        directory.mkdir(parents=True, exist_ok=True)
    layout.root.chmod(0o700)


def _airflow_url(layout: Layout) -> str:
    return str(json.loads(layout.stack_file.read_text())["airflow_url"])
