"""A stack from another process: starting it with progress, its status, and stopping it."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from local.processes.layout import (
    DEFAULT_STATE_DIRECTORY,
    PROJECT_ROOT,
    PYTHON,
    Layout,
    choose_ports,
    clean_environment,
    stay_on_this_machine,
)
from local.processes.supervisor import StackError
from local.services.airflow import DEFAULT_EXECUTOR, Executor
from local.services.celery import require_packages
from local.stack.description import Stack, running_supervisor

_STOP_SECONDS = 120.0

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
    """Stop the stack of this state directory and wait until nothing is left of it; False when none was running.

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
    stay_on_this_machine()
    layout = Layout(options.state_directory.resolve())
    if running_supervisor(layout) is not None:
        started = layout.stack_file.exists()
        url = f" at {json.loads(layout.stack_file.read_text())['airflow_url']}" if started else " (still starting)"
        raise StackError(f"a stack is already running in {layout.root}{url}: 'make down' stops it")
    if options.executor == "CeleryExecutor":
        require_packages()
    fixed = {"airflow": options.airflow_port, "aws": options.aws_port, "partners": options.partners_port}
    ports = choose_ports(*fixed, fixed=fixed, preferred={"airflow": options.preferred_airflow_port})
    _clear(layout)
    with layout.log("supervisor").open("ab") as log:
        supervisor = subprocess.Popen(
            [
                PYTHON, "-m", "local.stack.start", "--state-dir", layout.root, "--ports", json.dumps(ports),
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
    """Remove what the last stack left: each start begins from nothing.

    Raises:
        StackError: the directory holds something, and no stack has ever had it: it is left as it is.
    """
    if layout.root.exists() and not layout.lock_file.exists() and any(layout.root.iterdir()):
        raise StackError(
            f"{layout.root} holds other things, and a start would delete some: empty it, or name a new directory with "
            "--state-dir"
        )
    layout.root.mkdir(parents=True, exist_ok=True)
    layout.lock_file.touch()
    for directory in (layout.logs, layout.airflow_home, layout.build, layout.root / "emulator"):
        shutil.rmtree(directory, ignore_errors=True)
    for file in (layout.stack_file, layout.failed_file, layout.environment_file, layout.client_database):
        file.unlink(missing_ok=True)
    for directory in (layout.logs, layout.root / "emulator"):
        directory.mkdir(exist_ok=True)
    layout.root.chmod(0o700)


_EXIT_NOT_RUNNING = 3


def print_status(layout: Layout, console: Console) -> int:
    """Print what runs in this state directory; returns 0 if a stack runs, 3 (as `systemctl`) if none does."""
    pid = running_supervisor(layout)
    if pid is None:
        console.print("no local stack is running")
        if layout.failed_file.exists():
            failure = json.loads(layout.failed_file.read_text())
            console.print(f"the last one stopped by itself at {failure['at']}:")
            console.print(failure["error"], markup=False, soft_wrap=True)
        return _EXIT_NOT_RUNNING
    if not layout.stack_file.exists():
        console.print(f"the local stack is starting or stopping (supervisor: pid {pid})")
        return 0
    stack = Stack.read(layout.root)
    urls = {
        "api-server": stack.airflow_url,
        "emulator": stack.aws_endpoint_url,
        "partners": stack.partners_url,
    }
    table = Table("service", "pid", "state", "address")
    for service, service_pid in {"supervisor": pid, **stack.pids}.items():
        times = stack.replaced.get(service)
        state = f"{_state(service_pid)}, replaced {times} times" if times else _state(service_pid)
        table.add_row(service, str(service_pid), state, urls.get(service, ""))
    console.print(table)
    console.print(f"orders API: {stack.orders_api_url}/orders", soft_wrap=True)
    console.print(f"events API: {stack.events_api_url}/events", soft_wrap=True)
    return 0


def _state(pid: int) -> str:
    try:
        return "zombie" if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE else "running"
    except psutil.NoSuchProcess:
        return "gone"


class StartProgress:
    """Shows the supervisor's events, live on a terminal and as plain lines elsewhere; call it with each."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._running: dict[str, float] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._console.print("starting the local stack (about half a minute)")
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._render, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case {"event": "started", "step": step}:
                self._running[step] = time.monotonic()
            case {"event": "done", "step": step, "seconds": seconds}:
                self._running.pop(step, None)
                self._console.print(f"  [green]✓[/] {step:<34} {seconds:5.1f} s")
            case {"event": "ready"}:
                self._console.print(f"  [green]✓[/] {'ready':<34} {time.monotonic() - self._began:5.1f} s in all")

    def close(self) -> None:
        """End the live display; what was printed stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for step, began in self._running.items():
            table.add_row(" ", Spinner("dots", style="cyan"), f"{step:<32}", f"{time.monotonic() - began:5.1f} s")
        return table
