import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from airflow_ext.ids import XComKey
from include.archive.run import LIST_TASK
from include.errors import (
    ApiUnavailableError,
    AuthRefusedError,
    DatabaseUnavailableError,
    InvalidAnswerError,
    NoResponseError,
    PipelineError,
    RunRefusedError,
    SettingsError,
    StorageRefusedError,
)
from tests.dags.archive import list_clients
from tests.worlds.airflow import FakeRun
from tests.worlds.archive import TOKEN_URL, WITHOUT_CREDENTIALS, ArchiveWorld


def test_listing_maps_one_task_a_client_and_keeps_the_plan(world: ArchiveWorld, run: FakeRun) -> None:
    works = list_clients(run)
    assert [work["label"] for work in works] == ["11 Client 11", "12 Client 12", "13 Client 13"]
    (key,) = world.s3.keys()
    folder = r"runs/trigger/20260308/manual__2026-03-08T06:00:00\+00:00/"
    assert re.fullmatch(rf"{folder}\d{{8}}T\d{{6}}\.\d{{6}}/plan\.json", key)
    plan = json.loads(world.s3.bodies(key)[-1] or b"")
    assert [client[0] for client in plan["clients"]] == [11, 12, 13]
    assert plan["trigger_date"] == "2026-03-08"
    assert plan["force"] is False
    assert run.pushed(LIST_TASK, XComKey.PLAN) == f"s3://archive/{key}"
    assert len(world.dex.logins) == 1, "wrong credentials are to fail here, once, and not in every task"
    assert world.dex.asked == []


def test_params_decide_day_clients_and_force(world: ArchiveWorld, run: FakeRun) -> None:
    run.params |= {"trigger_date": "2026-01-31", "client_ids": [13, 11], "force": True}
    assert [work["label"] for work in list_clients(run)] == ["11 Client 11", "13 Client 13"]
    (key,) = world.s3.keys("runs/trigger/20260131/")
    assert json.loads(world.s3.bodies(key)[-1] or b"")["force"] is True


def test_offset_setting_moves_the_day(world: ArchiveWorld, run: FakeRun) -> None:
    world.change_settings(trigger_date_offset_days=-1)
    list_clients(run)
    assert len(world.s3.keys("runs/trigger/20260307/")) == 1


def test_lock_of_no_days_is_refused_before_anything_is_done(world: ArchiveWorld, run: FakeRun) -> None:
    world.change_settings(archive_lock_mode="GOVERNANCE")
    with pytest.raises(SettingsError, match=r"archive_lock_days is 0.* deploy with ArchiveLockDays of at least 1"):
        list_clients(run)
    assert (world.s3.keys(), world.dex.logins) == ([], [])
    world.change_settings(archive_lock_mode="GOVERNANCE", archive_lock_days=1)
    assert len(list_clients(run)) == 3


def test_manual_run_keeps_the_day_it_was_triggered_also_when_it_is_repaired_later(
    world: ArchiveWorld, run: FakeRun
) -> None:
    run.logical_date = None
    # Late in the evening of the 7th in New York, and long before the test runs.
    run.run_after = datetime(2026, 3, 8, 4, 30, tzinfo=UTC)
    list_clients(run)
    run.clear_number += 1
    list_clients(run)
    assert world.s3.keys() == world.s3.keys("runs/trigger/20260307/")


def test_schedule_in_another_zone_than_the_days_warns_and_goes_on(
    world: ArchiveWorld, run: FakeRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__PIPELINES__BUSINESS_TIMEZONE", "Europe/Warsaw")
    assert len(list_clients(run)) == 3
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "scheduled in Europe/Warsaw" in warning
    assert "days are those of America/New_York" in warning


def test_schedule_in_the_zone_of_the_days_is_quiet(
    world: ArchiveWorld, run: FakeRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__PIPELINES__BUSINESS_TIMEZONE", "Europe/Warsaw")
    world.change_settings(business_timezone="Europe/Warsaw")
    list_clients(run)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_many_clients_are_grouped_and_their_xcom_stays_small(world: ArchiveWorld, run: FakeRun) -> None:
    world.set_clients(list(range(1, 1201)))
    world.change_settings(max_mapped_clients=500, clients_per_task=250)
    works = list_clients(run)
    assert len(works) == 5
    assert works[0]["label"] == "1-240 (240 clients)"
    world.change_settings(max_mapped_clients=1024, clients_per_task=1)
    works = list_clients(run)
    assert len(works) == 1024
    assert sys.getsizeof(json.dumps(works)) < 256 * 1024


@pytest.mark.parametrize(("clients", "calls"), [(3, 64), (8, 32), (16, 16), (200, 16)])
def test_tasks_of_a_run_share_the_calls_that_were_announced_to_the_api_s_owner(
    clients: int, calls: int, world: ArchiveWorld, run: FakeRun
) -> None:
    world.set_clients(list(range(1, clients + 1)))
    world.change_settings(archive_concurrency=64)
    list_clients(run)
    (key,) = world.s3.keys()
    assert json.loads(world.s3.bodies(key)[-1] or b"")["concurrency"] == calls


def test_no_clients_is_an_empty_list_and_costs_no_login(world: ArchiveWorld, run: FakeRun) -> None:
    world.set_clients([])
    assert list_clients(run) == []
    assert world.dex.logins == []
    assert run.pushed(LIST_TASK, XComKey.PLAN) is not None


def break_settings(world: ArchiveWorld, run: FakeRun) -> None:
    world.settings.clear()
    world.change_settings(environment="local")


def break_database(world: ArchiveWorld, run: FakeRun) -> None:
    world.database.unlink()


def break_connection(world: ArchiveWorld, run: FakeRun) -> None:
    world.set_connection("dex_api", conn_type="http", host="https://dex.test", login="me")


def replies(reply: httpx.Response | Exception) -> Any:
    def change(world: ArchiveWorld, run: FakeRun) -> None:
        world.dex._tokens.append(reply)

    return change


def param(name: str, value: Any) -> Any:
    def change(world: ArchiveWorld, run: FakeRun) -> None:
        run.params[name] = value

    return change


def backfill_with_a_day(world: ArchiveWorld, run: FakeRun) -> None:
    run.run_type = "backfill"
    run.params["trigger_date"] = "2026-03-01"


@pytest.mark.parametrize(
    ("fault", "expected", "says"),
    [
        (param("trigger_date", "2999-01-01"), RunRefusedError, "in the future"),
        (param("trigger_date", "08.03.2026"), RunRefusedError, "YYYY-MM-DD"),
        (param("client_ids", [11, WITHOUT_CREDENTIALS]), RunRefusedError, str(WITHOUT_CREDENTIALS)),
        (param("client_ids", []), RunRefusedError, "empty list"),
        (param("client_ids", ["11", str(WITHOUT_CREDENTIALS)]), RunRefusedError, str(WITHOUT_CREDENTIALS)),
        (backfill_with_a_day, RunRefusedError, "trigger_date in a backfill"),
        (break_settings, SettingsError, "archive_bucket"),
        (break_database, DatabaseUnavailableError, "dex_db"),
        (break_connection, SettingsError, "extra.token_url"),
        (replies(httpx.Response(401)), AuthRefusedError, "client secret"),
        (replies(httpx.Response(503)), ApiUnavailableError, "503"),
        (replies(httpx.Response(200, text="<html>")), InvalidAnswerError, "token_url"),
        (replies(httpx.ConnectError("no route")), NoResponseError, "connection"),
    ],
    ids=[
        "future", "malformed date", "unknown client", "no client", "unknown as text", "backfill",
        "settings", "database", "connection",
        "credentials", "token endpoint fails", "token endpoint is a web page", "no network",
    ],
)  # fmt: skip
def test_what_is_wrong_at_the_start_is_named_and_nothing_is_written(
    fault: Any, expected: type[PipelineError], says: str, world: ArchiveWorld, run: FakeRun
) -> None:
    fault(world, run)
    with pytest.raises(expected, match=says) as caught:
        list_clients(run)
    assert world.s3.keys() == []
    assert world.dex.asked == []
    # Airflow masks the extras of a connection by their names, and "token_url" has a token in it.
    shown = str(caught.value).replace(TOKEN_URL, "***")
    assert run.pushed(LIST_TASK, XComKey.FAILURE) == f"{expected.__name__}: {shown}"
    assert run.pushed(LIST_TASK, XComKey.PLAN) is None


def test_ids_of_the_form_are_texts(world: ArchiveWorld, run: FakeRun) -> None:
    run.params["client_ids"] = ["13", "11"]
    assert [work["label"] for work in list_clients(run)] == ["11 Client 11", "13 Client 13"]


def test_bucket_that_is_not_there_is_named(world: ArchiveWorld, run: FakeRun) -> None:
    world.change_settings(archive_bucket="typo")
    with pytest.raises(StorageRefusedError, match="s3://typo/"):
        list_clients(run)
