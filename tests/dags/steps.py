"""The steps of an archive run, each as a task runs it, without Airflow around it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ext import archive_tasks
from include.archive.digest import ARCHIVE_TASK, LIST_TASK
from include.errors import ClientsFailedError
from tests.fakes.airflow import FakeRun
from tests.fakes.world import World, connection

SUMMARY_TASK = "summarize"


def list_clients(run: FakeRun) -> list[archive_tasks.Work]:
    """The first task."""
    with run.task(LIST_TASK) as context:
        return archive_tasks.list_clients(context)


def archive_client(run: FakeRun, index: int, work: archive_tasks.Work) -> dict[str, int]:
    """One mapped task."""
    with run.task(ARCHIVE_TASK, index) as context:
        return archive_tasks.archive_client(context, work)


def archive_all(run: FakeRun, works: list[archive_tasks.Work]) -> None:
    """Every mapped task; failures stay in the run, as in Airflow."""
    for index, work in enumerate(works):
        try:
            archive_client(run, index, work)
        except ClientsFailedError:
            continue


def summarize(run: FakeRun) -> dict[str, Any]:
    """The last task."""
    return archive_tasks.summarize(run.context(SUMMARY_TASK))


def break_database(world: World, run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the connection lead to a database that is not there."""
    connection("dex_db", {"conn_type": "sqlite", "host": f"{world.database}/absent"}, monkeypatch)
