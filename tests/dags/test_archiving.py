import httpx
import pytest

from airflow_ext.ids import XComKey
from airflow_ext.tasks import dex_trigger_archive
from include.archive.run import ARCHIVE_TASK
from include.errors import RetryableFailuresError, WorkFailedError
from tests.dags.archive import archive_all, archive_client, list_clients, summarize, summary_fails
from tests.worlds.airflow import FakeRun
from tests.worlds.archive import ArchiveWorld


def test_client_is_archived_under_its_name_in_the_ui(world: ArchiveWorld, run: FakeRun) -> None:
    work = list_clients(run)[1]
    context = run.context(ARCHIVE_TASK, 1)
    dex_trigger_archive.archive_client(context, work)
    assert context["label"] == "12 Client 12"
    assert world.s3.keys("trigger/") == ["trigger/12/12_trigger_20260308.json"]
    assert world.dex.asked[0].url.params["triggerDate"] == "2026-03-08"


def test_failed_client_leaves_its_reason(world: ArchiveWorld, run: FakeRun) -> None:
    world.dex.answers[12] = httpx.Response(404)
    work = list_clients(run)[1]
    with pytest.raises(WorkFailedError, match="client 12: DEX API answered 404"):
        archive_client(run, 1, work)
    assert run.pushed(ARCHIVE_TASK, XComKey.FAILURE, 1).startswith("WorkFailedError: 1 of 1 clients")
    assert world.s3.keys("trigger/") == []


def test_retry_of_a_group_asks_only_for_what_failed(world: ArchiveWorld, run: FakeRun) -> None:
    world.change_settings(max_mapped_clients=1, clients_per_task=10)
    (work,) = list_clients(run)
    world.dex.answers[13] = [httpx.Response(429, headers={"Retry-After": "3"}), httpx.Response(200, json=[13])]
    with pytest.raises(RetryableFailuresError) as caught:
        archive_client(run, 0, work)
    assert caught.value.retry_after == 3.0
    archive_client(run, 0, work)
    assert len(world.s3.keys("trigger/")) == 3
    assert sorted(world.dex.clients_asked) == [11, 12, 13, 13]


def test_force_of_the_run_reaches_the_store(world: ArchiveWorld, run: FakeRun) -> None:
    archive_all(run, list_clients(run))
    world.dex.answers[11] = httpx.Response(200, json=[])
    again = FakeRun("again", logical_date=run.logical_date)
    archive_all(again, list_clients(again))
    summary_fails(again)
    assert "force" in world.manifest()["errors"][0]["error"]
    forced = FakeRun("forced", logical_date=run.logical_date)
    forced.params["force"] = True
    archive_all(forced, list_clients(forced))
    assert summarize(forced)["failed_archives"] == 0
    assert world.s3.bodies("trigger/11/11_trigger_20260308.json") == [b'{"client": 11}', b"[]"]
