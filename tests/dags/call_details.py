"""The steps of the call-details DAGs, each as a task runs it, without Airflow around it."""

from typing import Any

import pytest

from airflow_ext.ids import CALL_DETAILS_INGEST, CALL_DETAILS_REPLAY, CALL_DETAILS_WATCH
from airflow_ext.tasks import call_details_ingest, call_details_replay, call_details_watch
from include.call_details.alerts import PLAN_TASK, POST_TASK, REPLAY_TASK
from include.call_details.models import FileVersion
from include.errors import PipelineError, WorkFailedError
from tests.worlds.airflow import FakeRun
from tests.worlds.call_details import CallDetailsWorld
from tests.worlds.s3 import BUCKET

RECONCILE_TASK = "reconcile"
KEY = "incoming/ä b+.txt"
BODY = b'{"a":1}\nplain\n[2]\n'


def drop(world: CallDetailsWorld, body: bytes = BODY, key: str = KEY) -> FileVersion:
    """A file of three records, unless the test wants another, in the bucket."""
    return FileVersion(BUCKET, key, world.s3.drop(key, body))


def counts(document: dict[str, Any]) -> tuple[int, int, int]:
    """Records read, accepted, dead-lettered."""
    return document["records_read"], document["records_accepted"], document["records_dead_lettered"]


def watch_run() -> FakeRun:
    return FakeRun("scheduled__1", "scheduled", dag_id=CALL_DETAILS_WATCH)


def ingest_run(key: str, *, run_id: str = "manual__1", **params: Any) -> FakeRun:
    found = {"bucket": None, "key": key, "etag": None, "force": False} | params
    return FakeRun(run_id, dag_id=CALL_DETAILS_INGEST, params=found)


def replay_run(*, dead_letters: list[str] | None = None, limit: int = 100, dry_run: bool = False) -> FakeRun:
    params = {"dead_letters": dead_letters, "limit": limit, "dry_run": dry_run}
    return FakeRun(dag_id=CALL_DETAILS_REPLAY, params=params)


def claim_files(run: FakeRun, *, try_number: int = 1) -> list[call_details_watch.Start]:
    """The watcher's second task, and the runs that it lists for the third."""
    with run.task("claim_files", try_number=try_number) as context:
        indexes = call_details_watch.claim_files(context)
        return [call_details_watch.read_start(context, index) for index in indexes]


def plan(run: FakeRun) -> list[int]:
    with run.task(PLAN_TASK) as context:
        return call_details_ingest.plan(context)


LAST_TRY = 6


def post_chunk(run: FakeRun, index: int, *, try_number: int = 1) -> dict[str, int]:
    with run.task(POST_TASK, index, try_number=try_number) as context:
        return call_details_ingest.post_chunk(context, index)


def reconcile(run: FakeRun) -> dict[str, Any]:
    return call_details_ingest.reconcile(run.context(RECONCILE_TASK))


def ingest(run: FakeRun) -> dict[str, Any]:
    """A whole run; failures before the last task stay in the run, as in Airflow."""
    try:
        for index in plan(run):
            post_chunk(run, index)
    except PipelineError:
        pass
    return reconcile(run)


def replay(run: FakeRun) -> dict[str, Any]:
    with run.task(REPLAY_TASK) as context:
        return call_details_replay.replay(context)


def reconcile_fails(run: FakeRun, says: str | None = None) -> None:
    """The last task, which fails the run, and why."""
    with pytest.raises(WorkFailedError, match=says):
        reconcile(run)
