"""Whole runs of ``dex_trigger_archive`` through Airflow's own task runner, against a world of ours."""

import json
import logging
from typing import Any

import httpx
import pendulum
import pytest
from airflow.models.dagrun import DagRun

from include.archive.keys import archive_key
from tests.dags.runs import kept_by_airflow, note_of, run_dag, states
from tests.worlds.alerts import SLACK_PATH
from tests.worlds.archive import SECRET, TOKEN, ArchiveWorld
from tests.worlds.pipeline import leaks

pytestmark = pytest.mark.usefixtures("airflow_database")

BODY = "b0dy-of-an-answ3r"
DAY = pendulum.date(2026, 3, 8)
MOMENTS = iter(pendulum.datetime(2026, 3, 8, 11).add(minutes=number) for number in range(100))
"""A run is known by its logical date: each test has its own, all on one business day."""


def run(conf: dict[str, Any] | None = None, **options: Any) -> DagRun:
    return run_dag("dex_trigger_archive", conf, logical_date=next(MOMENTS), **options)


def test_good_run_archives_every_client(world: ArchiveWorld) -> None:
    dag_run = run()
    assert dag_run.state == "success"
    assert states(dag_run) == {
        ("list_clients", -1): "success",
        ("archive_client", 0): "success",
        ("archive_client", 1): "success",
        ("archive_client", 2): "success",
        ("summarize", -1): "success",
    }
    assert world.s3.keys("trigger/") == [archive_key(number, DAY) for number in (11, 12, 13)]
    assert world.manifest()["run_id"] == dag_run.run_id
    names = {ti.map_index: ti.rendered_map_index for ti in dag_run.get_task_instances() if ti.map_index >= 0}
    assert names == {0: "11 Client 11", 1: "12 Client 12", 2: "13 Client 13"}
    assert note_of(dag_run) == (
        "**3 of 3 clients archived for 2026-03-08**\n\n- what to do: nothing\n"
        "- more: [operations page](http://localhost:8080/plugin/operations/days?day=2026-03-08)\n"
        "- unchanged: 0\n- failed: 0\n- manifest: `manifests/trigger/20260308.json`"
    )
    assert note_of(dag_run, by_person="seen, told the partner") == "seen, told the partner"
    assert (world.wire.sns, world.wire.slack) == ([], [])


def test_one_failed_client_fails_the_run_and_stops_no_other(
    world: ArchiveWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.change_settings(runbook_url="https://wiki.example/runbook")
    world.dex.answers[12] = httpx.Response(404)
    dag_run = run()
    assert dag_run.state == "failed"
    assert states(dag_run) == {
        ("list_clients", -1): "success",
        ("archive_client", 0): "success",
        ("archive_client", 1): "failed",
        ("archive_client", 2): "success",
        ("summarize", -1): "failed",
    }
    assert world.s3.keys("trigger/") == [archive_key(number, DAY) for number in (11, 13)]
    assert world.dex.clients_asked.count(12) == 1, "a 404 is not worth a retry"
    assert (len(world.wire.sns), len(world.wire.slack)) == (1, 1), "one digest"
    assert "client 12 (Client 12) in archive_client[1]" in world.wire.slack[0]["text"]
    assert world.wire.slack[0]["text"].endswith(
        "\noperations page: http://localhost:8080/plugin/operations/days?day=2026-03-08\n"
        "what to do: https://wiki.example/runbook#dex-trigger-archive-failed-run"
    )
    errors = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors[0].startswith("WorkFailedError: 1 of 1 clients failed: client 12: ")
    assert errors[1].startswith("WorkFailedError: 1 of 3 clients failed; see manifests/"), "one a task, and no other"
    (line,) = (record.message for record in caplog.records if record.message.startswith("client 11 (Client 11) "))
    stored = world.s3.bodies(archive_key(11, DAY))[0]
    assert line.startswith(f"client 11 (Client 11) archived: {archive_key(11, DAY)}, {len(stored)} bytes, sha256 ")
    note = note_of(dag_run)
    assert note.startswith("**2 of 3 clients archived for 2026-03-08**")
    assert "\n- what to do: https://wiki.example/runbook#dex-trigger-archive-failed-run\n" in note


@pytest.mark.parametrize("key", ["triggerdate", "client_id", "Force"])
def test_misspelt_key_is_refused_by_every_task_and_nothing_is_done(key: str, world: ArchiveWorld) -> None:
    dag_run = run({key: None}, failure_callback=True)
    assert dag_run.state == "failed"
    assert states(dag_run)["list_clients", -1] == "failed"
    assert states(dag_run)["summarize", -1] == "failed"
    assert (world.dex.logins, world.s3.keys(), world.metrics) == ([], [], [])
    assert (world.wire.sns, world.wire.slack) == ([], []), "who started the run sees it"


def test_client_task_pushes_no_xcom(world: ArchiveWorld) -> None:
    from airflow import settings
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    dag_run = run()
    with settings.Session() as session:
        of_task = select(XComModel.key).where(XComModel.run_id == dag_run.run_id, XComModel.task_id == "archive_client")
        assert list(session.scalars(of_task)) == []


def test_day_of_long_ago_is_archived(world: ArchiveWorld) -> None:
    run_dag("dex_trigger_archive", {"client_ids": [11]}, logical_date=pendulum.datetime(2009, 3, 8, 12))
    assert world.s3.keys("trigger/") == ["trigger/11/11_trigger_20090308.json"]


def test_run_that_cannot_tell_anyone_itself_is_reported_by_the_failure_callback(
    world: ArchiveWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_SETTINGS", "{}")
    dag_run = run(failure_callback=True)
    assert dag_run.state == "failed"
    assert world.wire.sns == [], "the topic is in the settings"
    (post,) = world.wire.slack
    assert dag_run.run_id in post["text"]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401, json={"error": "invalid_client", "error_description": f"secret {SECRET}"}),
        httpx.Response(200, json={"error": f"client_secret={SECRET}"}),
        httpx.Response(200, json={"access_token": {"of": SECRET}}),
        httpx.Response(400, text=f"<p>{SECRET}</p>"),
        httpx.Response(200, text=repr({"client_secret": SECRET})),
    ],
    ids=["refused", "error", "no token", "bad request", "no JSON"],
)
def test_secret_that_the_token_endpoint_quotes_is_nowhere_to_be_seen_in_whatever_form(
    answer: httpx.Response, world: ArchiveWorld, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    world.dex._tokens.append(answer)
    dag_run = run()
    assert dag_run.state == "failed"
    out, err = capfd.readouterr()
    everything = {"log": caplog.text, "printed": out + err, **kept_by_airflow(dag_run)}
    everything |= {"sns": str(world.wire.sns), "slack": str(world.wire.slack)}
    assert "list_clients" in everything["slack"], "or nothing was looked at"
    assert leaks(everything, SECRET) == []


def test_secrets_and_bodies_are_nowhere_to_be_seen(
    world: ArchiveWorld, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    world.dex.answers |= {
        11: httpx.Response(200, json={"text": BODY}),
        12: httpx.Response(404, text=BODY),
        13: [httpx.Response(401, text=BODY), httpx.Response(200, text=f"<html>{BODY}")],
    }
    dag_run = run()
    assert dag_run.state == "failed"
    assert world.s3.bodies(archive_key(11, DAY)) == [json.dumps({"text": BODY}, separators=(",", ":")).encode()]
    out, err = capfd.readouterr()
    documents = {key: str(world.s3.bodies(key)) for key in world.s3.objects if not key.startswith("trigger/")}
    assert len(documents) == 7, "plan, three outcomes, the manifests of run and day, ledger entry"
    kept = kept_by_airflow(dag_run)
    assert any("archive_client" in value for value in kept.values()), "or nothing was looked at"
    everything = {
        "log": caplog.text,
        "printed": out + err,
        "sns": str(world.wire.sns),
        "slack": str(world.wire.slack),
        **documents,
        **kept,
    }
    assert dag_run.run_id in everything["log"] + out + err
    assert leaks(everything, SECRET, TOKEN, SLACK_PATH, BODY) == []
