import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from airflow.sdk import Asset
from airflow.utils.types import DagRunType
from botocore.exceptions import EndpointConnectionError

from airflow_ext.ids import DEX_TRIGGER_ARCHIVE, XComKey
from airflow_ext.outside import outside
from include.archive.run import ARCHIVE_TASK, LIST_TASK
from include.errors import DatabaseUnavailableError, RunRefusedError, SettingsError
from tests.dags.archive import SUMMARY_TASK, archive_all, archive_client, list_clients, summarize, summary_fails
from tests.worlds.airflow import FakeRun
from tests.worlds.archive import ArchiveWorld
from tests.worlds.s3 import s3_error


def test_good_run_ends_quietly_and_updates_the_asset(world: ArchiveWorld, run: FakeRun) -> None:
    archive_all(run, list_clients(run))
    summary = summarize(run)
    assert summary == world.manifest() | {"manifest": "manifests/trigger/20260308.json"}
    assert (summary["total_clients"], summary["successful_archives"]) == (3, 3)
    assert run.outlet_events[Asset(DEX_TRIGGER_ARCHIVE)].extra == {
        "trigger_date": "2026-03-08",
        "total_clients": 3,
        "successful_archives": 3,
        "failed_archives": 0,
        "unchanged": 0,
        "manifest": "manifests/trigger/20260308.json",
    }
    assert [values for _, values in world.metrics] == [
        {"FailedRuns": 0.0, "FailedClients": 0.0, "SuccessfulClients": 3.0}
    ]
    assert (world.wire.sns, world.wire.slack) == ([], [])


@pytest.mark.parametrize("run_type", [kind.value for kind in DagRunType])
def test_only_scheduled_runs_quiet_the_alarm_on_missing_runs(run_type: str, world: ArchiveWorld, run: FakeRun) -> None:
    run.run_type = run_type
    archive_all(run, list_clients(run))
    summarize(run)
    assert [values.get("ScheduledRuns") for _, values in world.metrics] == [1.0 if run_type == "scheduled" else None]


def test_duration_of_the_run_is_published(world: ArchiveWorld, run: FakeRun) -> None:
    run.start_date = datetime(2026, 3, 8, 6, tzinfo=UTC)
    archive_all(run, list_clients(run))
    with outside.replaced(now=lambda: datetime(2026, 3, 8, 6, 2, 30, tzinfo=UTC).timestamp()):
        summarize(run)
    assert world.cloudwatch.published[0][2]["RunSeconds"] == 150.0


def test_failed_clients_fail_the_run_with_one_digest(world: ArchiveWorld, run: FakeRun) -> None:
    world.dex.answers |= {11: httpx.Response(404), 13: httpx.Response(200, text="<html>")}
    archive_all(run, list_clients(run))
    summary_fails(run, "2 of 3 clients failed")
    (message,), (post,) = world.wire.sns, world.wire.slack
    assert "2 of 3 clients not archived for 2026-03-08" in message["Subject"]
    for text in (message["Message"], post["text"]):
        assert "client 11 (Client 11) in archive_client[0]: DEX API answered 404" in text
        assert "client 13 (Client 13) in archive_client[2]: DEX API answered 200 with HTML" in text
        assert "client 12" not in text
        assert "s3://archive/manifests/trigger/20260308.json" in text
        assert "/tasks/archive_client/mapped/2" in text
    assert run.pushed(SUMMARY_TASK, "return_value")["failed_archives"] == 2
    assert run.pushed(SUMMARY_TASK, XComKey.ALERTED) == {"clear_number": 0, "channels": ["slack", "sns"]}
    assert run.outlet_events == {}, "the asset is for complete days"
    assert [values for _, values in world.metrics] == [
        {"FailedRuns": 1.0, "FailedClients": 2.0, "SuccessfulClients": 1.0}
    ]
    assert world.reported_failures == 1


def test_client_without_a_usable_id_fails_the_run_and_costs_no_other_its_archive(
    world: ArchiveWorld, run: FakeRun
) -> None:
    world.set_clients([11, "C-100"])
    archive_all(run, list_clients(run))
    place = f"manifests/trigger/20260308/{run.run_id}.json"
    summary_fails(run, f"1 of 2 clients failed; see {re.escape(place)}$")
    assert f"manifest: s3://archive/{place}" in world.wire.slack[0]["text"], "the day's does not name it"
    assert world.s3.keys("trigger/") == ["trigger/11/11_trigger_20260308.json"]
    manifest = world.manifest()
    why = "ClientID 'C-100' in table Client is not an integer; correct or remove the row"
    assert (manifest["total_clients"], manifest["successful_archives"], manifest["failed_archives"]) == (2, 1, 1)
    assert manifest["errors"] == [{"client_id": None, "client_name": "Client C-100", "error": why}]
    assert f"a client (Client C-100) in list_clients: {why}" in world.wire.slack[0]["text"]
    (day,) = world.s3.bodies("manifests/trigger/20260308.json")
    assert json.loads(day or b"")["failed_archives"] == 0, "no run could ever archive it"


def test_who_names_clients_is_not_told_of_others_without_a_usable_id(world: ArchiveWorld, run: FakeRun) -> None:
    world.set_clients([11, "C-100"])
    run.params["client_ids"] = [11]
    archive_all(run, list_clients(run))
    assert summarize(run)["failed_archives"] == 0


def test_run_without_any_usable_id_fails_and_is_no_warning(world: ArchiveWorld, run: FakeRun) -> None:
    world.set_clients(["C-100"])
    assert list_clients(run) == []
    summary_fails(run, "1 of 1 clients failed")
    assert "1 of 1 clients not archived" in world.wire.sns[0]["Subject"]


def test_summary_that_is_killed_before_its_alert_leaves_it_to_the_failure_callback(
    world: ArchiveWorld, run: FakeRun
) -> None:
    world.cloudwatch.error = KeyboardInterrupt("killed")
    world.dex.answers[11] = httpx.Response(404)
    archive_all(run, list_clients(run))
    with pytest.raises(KeyboardInterrupt):
        summarize(run)
    assert run.pushed(SUMMARY_TASK, XComKey.ALERTED) is None, "or the callback would stay silent"


def test_people_are_alerted_when_xcom_takes_nothing(world: ArchiveWorld, run: FakeRun) -> None:
    world.dex.answers[11] = httpx.Response(404)
    archive_all(run, list_clients(run))
    run.xcoms.refused = ("return_value", XComKey.ALERTED, XComKey.FAILURE)
    summary_fails(run, "1 of 3 clients failed")
    assert (len(world.wire.sns), len(world.wire.slack)) == (1, 1)
    assert run.pushed(SUMMARY_TASK, "return_value") is None


def test_good_run_ends_well_when_xcom_takes_nothing(world: ArchiveWorld, run: FakeRun) -> None:
    archive_all(run, list_clients(run))
    run.xcoms.refused = ("return_value",)
    assert summarize(run)["successful_archives"] == 3


def test_control_character_in_a_client_s_name_reaches_manifest_xcom_and_alert_as_a_visible_escape(
    world: ArchiveWorld, run: FakeRun
) -> None:
    world.rename(11, "Ac\x01me " + "x" * 4000)
    world.dex.answers[11] = httpx.Response(404)
    archive_all(run, list_clients(run))
    summary_fails(run)
    (failure,) = run.pushed(SUMMARY_TASK, "return_value")["errors"]
    assert failure["client_name"].startswith("Ac\\x01me xxx")
    assert len(failure["client_name"]) == 200
    assert world.manifest()["errors"] == [failure]
    assert "client 11 (Ac\\x01me xxx" in world.wire.slack[0]["text"]


def test_task_that_was_killed_is_in_the_digest(world: ArchiveWorld, run: FakeRun) -> None:
    works = list_clients(run)
    archive_all(run, works[:2])
    summary_fails(run, "1 of 3")
    assert "client 13 (Client 13) in archive_client[2]: no outcome" in world.wire.sns[0]["Message"]


def test_task_that_failed_before_its_first_client_says_why(world: ArchiveWorld, run: FakeRun) -> None:
    works = list_clients(run)
    archive_all(run, works[:2])
    world.set_connection("dex_api", conn_type="http")
    with pytest.raises(SettingsError):
        archive_client(run, 2, works[2])
    summary_fails(run)
    assert "SettingsError: connection 'dex_api': missing" in world.manifest()["errors"][0]["error"]


def test_no_clients_is_a_warning_and_a_success(world: ArchiveWorld, run: FakeRun) -> None:
    world.set_clients([])
    assert list_clients(run) == []
    assert summarize(run)["total_clients"] == 0
    (message,) = world.wire.sns
    assert message["Subject"].startswith("[WARNING] dex_trigger_archive: no client")
    assert len(world.wire.slack) == 1


def test_failed_listing_is_reported_once_with_its_reason(world: ArchiveWorld, run: FakeRun) -> None:
    world.database.unlink()
    with pytest.raises(DatabaseUnavailableError):
        list_clients(run)
    summary_fails(run, "DatabaseUnavailableError")
    (message,) = world.wire.sns
    assert "DatabaseUnavailableError" in message["Message"]
    assert world.s3.keys() == []
    assert [values for _, values in world.metrics] == [
        {"FailedRuns": 1.0, "FailedClients": 0.0, "SuccessfulClients": 0.0}
    ]


@pytest.mark.parametrize("param", [{"trigger_date": "2999-01-01"}, {"client_ids": [404]}], ids=str)
def test_refused_run_of_a_person_fails_without_alert_and_without_counting_as_a_failed_run(
    param: dict[str, Any], world: ArchiveWorld, run: FakeRun
) -> None:
    run.params |= param
    with pytest.raises(RunRefusedError):
        list_clients(run)
    with pytest.raises(RunRefusedError, match="list_clients refused the run, nothing was archived"):
        summarize(run)
    assert (world.wire.sns, world.wire.slack, world.metrics) == ([], [], [])
    assert run.pushed(SUMMARY_TASK, XComKey.ALERTED)["channels"] == ["refusal"], "or the failure callback would alert"


def test_refused_run_that_nobody_watches_sends_an_alert(world: ArchiveWorld, run: FakeRun) -> None:
    """As by an offset setting that leads into the future."""
    run.run_type = "scheduled"
    run.params["trigger_date"] = "2999-01-01"
    with pytest.raises(RunRefusedError):
        list_clients(run)
    summary_fails(run, "in the future")
    assert len(world.wire.sns) == 1


def test_scheduled_run_that_could_not_list_has_run_all_the_same(world: ArchiveWorld, run: FakeRun) -> None:
    run.run_type = "scheduled"
    run.states[LIST_TASK] = "failed"
    summary_fails(run)
    assert [(values["FailedRuns"], values["ScheduledRuns"]) for _, values in world.metrics] == [(1.0, 1.0)]


@pytest.mark.parametrize("state", ["failed", "upstream_failed", "skipped", "removed", None])
def test_killed_listing_is_reported_too(state: str | None, world: ArchiveWorld, run: FakeRun) -> None:
    run.states[LIST_TASK] = state
    summary_fails(run, "killed")
    assert len(world.wire.sns) == 1


def test_listing_that_fails_when_it_is_run_again_is_not_hidden_by_its_old_plan(
    world: ArchiveWorld, run: FakeRun
) -> None:
    archive_all(run, list_clients(run))
    summarize(run)
    before = world.manifest()
    run.clear_number += 1
    world.database.unlink()
    with pytest.raises(DatabaseUnavailableError):
        list_clients(run)
    assert run.pushed(LIST_TASK, XComKey.PLAN) is not None, "or there is nothing to be misled by"
    summary_fails(run, "no client was archived: list_clients failed: DatabaseUnavail")
    (message,) = world.wire.sns
    assert "DatabaseUnavailableError" in message["Message"]
    assert world.manifest() == before


def test_cleared_task_that_is_killed_at_once_is_a_failure(world: ArchiveWorld, run: FakeRun) -> None:
    archive_all(run, list_clients(run))
    summarize(run)
    run.clear_number += 1
    run.states[f"{ARCHIVE_TASK}_1"] = "failed"
    summary_fails(run, "1 of 3")
    assert "client 12 (Client 12) in archive_client[1]: no outcome" in world.wire.sns[0]["Message"]
    assert world.manifest()["failed_archives"] == 1


def test_cleared_task_that_succeeds_repairs_the_run_and_leaves_the_others_counted(
    world: ArchiveWorld, run: FakeRun
) -> None:
    world.dex.answers[12] = [httpx.Response(404), httpx.Response(200, json=[12])]
    works = list_clients(run)
    archive_all(run, works)
    summary_fails(run, "1 of 3")
    run.clear_number += 1
    archive_client(run, 1, works[1])
    assert summarize(run)["successful_archives"] == 3
    assert sorted(world.dex.clients_asked) == [11, 12, 12, 13]


def test_part_of_a_run_that_is_cleared_does_not_undo_what_another_run_repaired(
    world: ArchiveWorld, run: FakeRun
) -> None:
    world.dex.answers |= {11: httpx.Response(404), 12: httpx.Response(404)}
    works = list_clients(run)
    archive_all(run, works)
    summary_fails(run, "2 of 3")
    world.dex.answers.clear()
    repair = FakeRun("manual__repair", logical_date=run.logical_date, params=run.params | {"client_ids": [11]})
    archive_all(repair, list_clients(repair))
    summarize(repair)
    run.clear_number += 1
    archive_client(run, 1, works[1])
    summary_fails(run, "1 of 3")
    day = json.loads(world.s3.bodies("manifests/trigger/20260308.json")[-1] or b"")
    assert (day["successful_archives"], day["errors"]) == (3, [])
    assert [line["run_id"] for line in day["clients"]] == [repair.run_id, run.run_id, run.run_id]


def test_alert_that_reached_nobody_is_left_to_the_safety_net(world: ArchiveWorld, run: FakeRun) -> None:
    world.wire.sns_is_down = world.wire.slack_is_down = True
    world.dex.answers[11] = httpx.Response(404)
    archive_all(run, list_clients(run))
    summary_fails(run)
    assert run.pushed(SUMMARY_TASK, XComKey.ALERTED)["channels"] == []
    waiting = {key.split("/")[2] for key in world.s3.present("alerts/undelivered/")}
    assert waiting == {"slack", "sns"}, "and to later runs"


@pytest.mark.parametrize(
    "error", [s3_error("AccessDenied", "PutMetricData"), EndpointConnectionError(endpoint_url="x")], ids=str
)
def test_metrics_that_cannot_be_published_do_not_fail_the_archive(
    error: Exception, world: ArchiveWorld, run: FakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    world.cloudwatch.error = error
    archive_all(run, list_clients(run))
    assert summarize(run)["failed_archives"] == 0
    assert "metrics were not published" in caplog.text


def test_summary_of_very_many_clients_stays_small_in_xcom(world: ArchiveWorld, run: FakeRun) -> None:
    world.set_clients(list(range(1, 1502)))
    world.change_settings(max_mapped_clients=1)
    list_clients(run)
    summary_fails(run, "1501 of 1501")
    pushed = run.pushed(SUMMARY_TASK, "return_value")
    assert pushed["failed_archives"] == 1501
    assert len(pushed["errors"]) == 1000
    assert "clients" not in pushed
    assert len(world.manifest()["clients"]) == 1501
    assert len(world.wire.sns[0]["Message"]) < 20_000


def test_all_that_is_evidence_is_locked_and_working_files_are_not(world: ArchiveWorld, run: FakeRun) -> None:
    world.change_settings(archive_lock_mode="COMPLIANCE", archive_lock_days=30)
    archive_all(run, list_clients(run))
    summarize(run)
    written = {key: world.s3.objects[key][-1].arguments for key in world.s3.keys("")}
    locked = {key for key, arguments in written.items() if "ObjectLockRetainUntilDate" in arguments}
    assert locked == {key for key in written if not key.startswith("runs/")}
    assert {key.partition("/")[0] for key in written} == {"trigger", "manifests", "ledger", "runs"}
    assert {written[key]["ObjectLockMode"] for key in locked} == {"COMPLIANCE"}
    least = datetime.now(UTC) + timedelta(days=29)
    assert all(written[key]["ObjectLockRetainUntilDate"] > least for key in locked)


def test_run_again_writes_nothing_twice(world: ArchiveWorld, run: FakeRun) -> None:
    archive_all(run, list_clients(run))
    summarize(run)
    run.clear_number += 1
    archive_all(run, list_clients(run))
    assert summarize(run)["unchanged"] == 3
    assert all(len(world.s3.bodies(key)) == 1 for key in world.s3.keys("trigger/"))
