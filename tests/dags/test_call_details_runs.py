"""Whole runs of the call-details DAGs through Airflow's own task runner, against a world of ours."""

import json
from collections.abc import Iterator

import httpx
import pytest
from airflow.models.dagrun import DagRun
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor

from include.call_details.keys import idempotency_key, run_id, shared_key
from include.call_details.models import FileVersion
from tests.dags.runs import kept_by_airflow, run_dag, states
from tests.worlds.call_details import CallDetailsWorld
from tests.worlds.s3 import BUCKET

pytestmark = pytest.mark.usefixtures("airflow_database")

KEY = "incoming/{{ 7 * 7 }} ä+.txt"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[CallDetailsWorld]:
    """An API that takes everything, an empty bucket."""
    # Only dag.test makes the callbacks' context like this: from serialized params, where one without a default fails.
    monkeypatch.setattr("airflow.models.dagrun.DagRun.execute_dag_callbacks", lambda dag_run, **arguments: None)
    with CallDetailsWorld().attached() as world:
        yield world


def drop(world: CallDetailsWorld, body: bytes = b"1\n2\n3\n", key: str = KEY) -> FileVersion:
    return FileVersion(BUCKET, key, world.s3.drop(key, body))


def test_file_is_ingested_in_named_chunks(world: CallDetailsWorld) -> None:
    drop(world)
    dag_run = run_dag("call_details_ingest", {"key": KEY})
    assert dag_run.state == "success"
    assert states(dag_run) == {("plan", -1): "success", ("post_chunk", 0): "success", ("reconcile", -1): "success"}
    names = [ti.rendered_map_index for ti in dag_run.get_task_instances() if ti.map_index >= 0]
    assert names == ["records 1-3"]
    assert world.receipt()["records_accepted"] == 3
    assert world.receipt()["run_id"] == dag_run.run_id


def test_api_of_a_small_quota_is_waited_for_as_often_as_it_takes(world: CallDetailsWorld) -> None:
    world.change_settings(max_records_per_batch=1, max_concurrent_calls=1)
    batches = 7
    file = drop(world, b"1\n" * batches)

    def every_other(request: httpx.Request) -> httpx.Response:
        """Of two calls it takes the first, whichever batch that is; an attempt of the task makes two."""
        first = len(world.api.posted) % 2
        return httpx.Response(200) if first else httpx.Response(429, headers={"Retry-After": "3600"})

    world.api.answers = {idempotency_key(file, number): [every_other] for number in range(batches)}
    dag_run = run_dag("call_details_ingest", {"key": KEY})
    assert dag_run.state == "success"
    (task,) = [ti for ti in dag_run.get_task_instances() if ti.map_index >= 0]
    assert batches - 1 > task.max_tries
    assert (task.state, task.try_number) == ("success", 1), "nothing has failed"
    assert len(world.api.posted) == 2 * batches - 1
    receipt = world.receipt()
    assert (receipt["records_accepted"], receipt["batches_dead_lettered"]) == (batches, 0)
    assert world.wire.sns == []


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sensor finds something at once; dag.test ends no wait by its time-out."""
    monkeypatch.setattr(S3KeySensor, "execute", lambda self, context: None)


def started() -> dict[str, DagRun]:
    """The runs that the watcher has started, by id."""
    from airflow.settings import Session
    from sqlalchemy import select

    with Session() as session:
        query = select(DagRun).where(
            DagRun.dag_id == "call_details_ingest", DagRun.run_id.startswith("file", autoescape=True)
        )
        return {found.run_id: found for found in session.scalars(query)}


@pytest.mark.usefixtures("dropped")
def test_watcher_starts_a_run_for_each_file_and_none_twice(world: CallDetailsWorld) -> None:
    files = [drop(world), drop(world, key=f"incoming/{'long' * 100}b.txt")]
    dag_run = run_dag("call_details_watch")
    assert dag_run.state == "success"
    assert states(dag_run) == {
        ("wait_for_file", -1): "success",
        ("claim_files", -1): "success",
        ("start_ingest", 0): "success",
        ("start_ingest", 1): "success",
    }
    keys = [started()[run_id(file)].conf["key"] for file in files]
    assert keys == [file.key for file in files], "a key that looks like a template is no template"
    names = {ti.rendered_map_index for ti in dag_run.get_task_instances() if ti.map_index >= 0}
    assert names == {file.key[-250:] for file in files}, "Airflow's table takes no more"
    xcoms = [text for name, text in kept_by_airflow(dag_run).items() if name.startswith("XCom")]
    assert xcoms
    assert not any("7 * 7" in text for text in xcoms), "Airflow's database may refuse a key, and with it all runs"
    drop(world)
    again = run_dag("call_details_watch")
    assert states(again)["start_ingest", 0] == "skipped"
    assert again.state == "success"


@pytest.mark.usefixtures("dropped")
def test_small_files_share_a_run_that_names_them(world: CallDetailsWorld) -> None:
    from airflow.models.dagrun import DagRunNote
    from airflow.settings import Session
    from sqlalchemy import select

    files = [drop(world, b'{"n":%d}\n' % number, f"incoming/{{{{ x }}}} ä{number}.txt") for number in range(12)]
    assert run_dag("call_details_watch").state == "success"
    (found,) = [run for name, run in started().items() if name.startswith("files__12_")]
    with Session() as session:
        note = session.scalars(select(DagRunNote.content).where(DagRunNote.dag_run_id == found.id)).one()
    assert note.startswith("12 files, listed in s3://ingest/plans/shared/files__12_")
    assert files[0].key in note
    assert found.conf["key"] == shared_key(found.run_id)


def test_run_of_a_list_ingests_all_its_files_and_one_bad_one_costs_only_itself(world: CallDetailsWorld) -> None:
    bodies = [b"\x1f\x8b damaged", *(b'{"n":%d}\n' % number for number in range(11))]
    files = [drop(world, body, f"incoming/list {number}.txt") for number, body in enumerate(bodies)]
    world.s3.drop("plans/shared/by-hand.json", json.dumps([[file.key, file.etag] for file in files]).encode())
    dag_run = run_dag("call_details_ingest", {"key": "plans/shared/by-hand.json"})
    assert dag_run.state == "failed"
    assert states(dag_run) == {("plan", -1): "success", ("post_chunk", 0): "success", ("reconcile", -1): "failed"}
    names = [ti.rendered_map_index for ti in dag_run.get_task_instances() if ti.map_index >= 0]
    assert names == ["11 files from incoming/list 1.txt"]
    assert len(world.api.posted) == 11
    assert len(world.s3.present("receipts/")) == 12
    assert (len(world.s3.present("failed/")), len(world.wire.sns)) == (1, 1)
