"""The processes of a stack: all of them, and those that run a task at this moment."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from local.layout import Layout
from local.stack import Stack, running_supervisor

_TASK_TITLE = "airflow worker -- "


def family(state_directory: Path) -> list[psutil.Process]:
    """The supervisor of a state directory and all that runs below it."""
    pid = running_supervisor(Layout(state_directory))
    assert pid is not None
    supervisor = psutil.Process(pid)
    return [supervisor, *supervisor.children(recursive=True)]


def running_tasks(stack: Stack) -> dict[str, psutil.Process]:
    """The processes that run tasks of this stack, by the id of the task instance."""
    found = {}
    for process in psutil.Process(stack.pids["scheduler"]).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            title = " ".join(process.cmdline()).strip()
            if title.startswith(_TASK_TITLE):
                found[title.removeprefix(_TASK_TITLE)] = process
    return found
