"""The processes of a stack: all of them, those that run a task at this moment, and how they come to harm."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import sqlalchemy

from local.processes.layout import PROJECT_ROOT, PYTHON, Layout
from local.stack.description import Stack, running_supervisor
from tests.worlds.live.waiting import wait_until

_TASK_TITLE = "airflow worker -- "


def family(state_directory: Path) -> list[psutil.Process]:
    """The supervisor of a state directory and all that runs below it."""
    pid = running_supervisor(Layout(state_directory))
    assert pid is not None
    supervisor = psutil.Process(pid)
    return [supervisor, *supervisor.children(recursive=True)]


def running_tasks(stack: Stack) -> dict[str, psutil.Process]:
    """The processes that run tasks of this stack, by the id of the task instance.

    Which service they belong to depends on the executor: the scheduler or a Celery worker.
    """
    found = {}
    for process in family(_state_directory(stack)):
        with contextlib.suppress(psutil.NoSuchProcess):
            title = " ".join(process.cmdline()).strip()
            if title.startswith(_TASK_TITLE):
                found[title.removeprefix(_TASK_TITLE)] = process
    return found


def lose(service: psutil.Process) -> None:
    """Kill a service and all that it has started, at one moment, as if its machine had burned down."""
    processes = [service, *service.children(recursive=True)]
    for process in processes:
        process.suspend()  # nobody sees another die
    for process in processes:
        process.kill()


def service_of(stack: Stack, name: str) -> psutil.Process:
    """The process that is this service now: ``stack`` knows those of its start."""
    return psutil.Process(Stack.read(_state_directory(stack)).pids[name])


def _state_directory(stack: Stack) -> Path:
    return Path(stack.logs).parent


@contextmanager
def standing_still(service: psutil.Process, *, at: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """The service and its children do nothing for the duration of a ``with`` block.

    Args:
        service: the process.
        at: whether this is the moment, asked while it stands still; it goes on and is stopped again until it is.
    """
    processes: list[psutil.Process] = []

    def stands_still() -> bool:
        processes[:] = [service, *service.children(recursive=True)]
        _each(processes, psutil.Process.suspend)
        if at():
            return True
        _each(reversed(processes), psutil.Process.resume)
        return False

    try:
        wait_until(stands_still, what="the moment to stop", poll=0.05)
        yield
    finally:
        _each(reversed(processes), psutil.Process.resume)


def _each(processes: Iterable[psutil.Process], do: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            do(process)


def holds_no_lock(stack: Stack, service: str) -> bool:
    """Whether a service of Airflow has no transaction of the database open, which would keep rows from all others."""
    url = stack.airflow_environment()["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    question = "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND state <> 'idle'"
    with engine.connect() as connection:
        return connection.scalar(sqlalchemy.text(question), {"name": service}) == 0


@contextmanager
def another(service: str, stack: Stack, **options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A service beside the stack's own, in a session of its own; killed at the latest at the end."""
    with another_log(service, stack).open("wb") as log:
        process = subprocess.Popen(
            [PYTHON, "-m", "airflow", *service.split(), "--skip-serve-logs"],
            cwd=PROJECT_ROOT,
            env=stack.airflow_environment() | options,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def another_log(service: str, stack: Stack) -> Path:
    """Where the service of :func:`another` logs."""
    return Path(stack.logs) / f"another-{service}.log"
