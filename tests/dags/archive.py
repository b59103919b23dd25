"""The steps of an archive run, each as a task runs it, without Airflow around it."""

from typing import Any

import pytest

from airflow_ext.tasks import dex_trigger_archive
from include.archive.run import ARCHIVE_TASK, LIST_TASK
from include.errors import WorkFailedError
from tests.worlds.airflow import FakeRun

SUMMARY_TASK = "summarize"


def list_clients(run: FakeRun) -> list[dex_trigger_archive.Work]:
    with run.task(LIST_TASK) as context:
        return dex_trigger_archive.list_clients(context)


def archive_client(run: FakeRun, index: int, work: dex_trigger_archive.Work) -> None:
    with run.task(ARCHIVE_TASK, index) as context:
        dex_trigger_archive.archive_client(context, work)


def archive_all(run: FakeRun, works: list[dex_trigger_archive.Work]) -> None:
    """Every mapped task; failures stay in the run, as in Airflow."""
    for index, work in enumerate(works):
        try:
            archive_client(run, index, work)
        except WorkFailedError:
            continue


def summarize(run: FakeRun) -> dict[str, Any]:
    return dex_trigger_archive.summarize(run.context(SUMMARY_TASK))


def summary_fails(run: FakeRun, says: str | None = None) -> None:
    """The last task, which fails the run, and why."""
    with pytest.raises(WorkFailedError, match=says):
        summarize(run)
