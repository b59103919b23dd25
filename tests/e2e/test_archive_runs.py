"""What a run archives, and what running again changes."""

import hashlib
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from tests.e2e.conftest import NewDay, UseClients
from tests.worlds.live.archive import DAG_ID, Archive, key_of
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import TOKEN, Partners
from tests.worlds.live.pipeline import Pipeline

NOTHING_TO_REPORT = 1007
"""The stubs answer ``[]`` for this client."""

ALL = [1001, 1002, 1003, NOTHING_TO_REPORT, 987_654_321]


@pytest.fixture
def trio(use_clients: UseClients) -> list[int]:
    clients = [1001, 1002, 1003]
    use_clients(clients)
    return clients


def test_a_scheduled_run_keeps_every_answer_byte_for_byte_and_accounts_for_it(
    pipeline: Pipeline, partners: Partners, archive: Archive, use_clients: UseClients, new_day: NewDay
) -> None:
    use_clients(ALL)
    day = new_day()
    began = datetime.now(UTC).replace(microsecond=0)
    run = pipeline.run(logical_date=datetime.combine(day, time(6), ZoneInfo("America/New_York")))

    assert run.state == "success"
    assert set(run.mapped) == {str(client) for client in ALL}
    manifest = archive.manifest(day)
    (merged,) = manifest.pop("runs")
    assert merged["run_id"] == run.id
    assert {name: manifest[name] for name in manifest if name != "clients"} == {
        "trigger_date": day.isoformat(),
        "run_id": run.id,
        "total_clients": 5,
        "successful_archives": 5,
        "failed_archives": 0,
        "unchanged": 0,
        "errors": [],
    }
    assert pipeline.summary(run.id).items() >= manifest.items()

    lines = {line["client_id"]: line for line in manifest["clients"]}
    answers = partners.answers(ALL, day)
    assert answers[NOTHING_TO_REPORT] == b"[]"
    for client, answer in answers.items():
        (version,) = archive.versions(client, day)
        kept = archive.get(key_of(client, day))
        assert kept["Body"] == answer
        assert kept["ContentType"] == "application/json"
        assert kept["ServerSideEncryption"] == "AES256"
        digest = hashlib.sha256(answer).hexdigest()
        log = pipeline.log_lines(run.id, "archive_client", map_index=run.mapped[str(client)]["map_index"])
        (line,) = (line for line in log if line.get("event", "").startswith(f"client {client} ("))
        told = f" archived: {key_of(client, day)}, {len(answer)} bytes, sha256 {digest}, version {version.id}"
        assert line["event"].endswith(told)
        assert line["level"] == "info"
        assert [line for line in log if "credentials" in line.get("event", "")] == []
        archived_at = datetime.fromisoformat(kept["Metadata"].pop("archived_at"))
        assert began <= archived_at <= datetime.now(UTC)
        assert kept["Metadata"] == {
            "client_id": str(client),
            "trigger_date": day.isoformat(),
            "sha256": digest,
            "source_status": "200",
        }
        assert lines.pop(client) == {
            "client_id": client,
            "client_name": f"Łódź <Grid> & Sons {client}",
            "key": version.key,
            "sha256": digest,
            "bytes": len(answer),
            "version_id": version.id,
            "outcome": "archived",
            "run_id": run.id,
        }
    assert lines == {}

    wanted = {"source_dag_id": DAG_ID, "source_run_id": run.id}
    (event,) = pipeline.airflow.request("GET", "/assets/events", params=wanted)["asset_events"]
    assert event["name"] == DAG_ID
    assert (
        event["extra"].items()
        >= {
            "trigger_date": day.isoformat(),
            "total_clients": 5,
            "successful_archives": 5,
            "failed_archives": 0,
            "unchanged": 0,
            "manifest": f"manifests/trigger/{day:%Y%m%d}.json",
        }.items()
    )


def test_running_again_writes_only_what_changed_and_never_less_unless_forced(
    pipeline: Pipeline, partners: Partners, archive: Archive, inbox: Inbox, trio: list[int], new_day: NewDay
) -> None:
    day, (emptied, changed, left_out) = new_day(), trio
    params = {"trigger_date": day, "client_ids": [changed, emptied]}
    first = partners.answers(trio, day)

    run = pipeline.run(**params)
    assert run.state == "success"
    assert set(run.mapped) == {str(emptied), str(changed)}
    assert archive.versions(left_out, day) == []
    listing = archive.listing("trigger/")

    again = pipeline.run(**params)
    assert again.state == "success"
    assert archive.manifest(day)["unchanged"] == 2
    assert archive.listing("trigger/") == listing

    partners.order({"match": {"clientId": emptied}, "body": "[]"}, revision=1)
    refused = pipeline.run(**params)
    assert refused.state == "failed"
    outcomes = {line["client_id"]: line["outcome"] for line in archive.manifest(day)["clients"]}
    assert outcomes == {emptied: "failed", changed: "updated"}
    assert [archive.body(emptied, day)] == [first[emptied]]
    assert len(archive.versions(emptied, day)) == 1
    newer, older = archive.versions(changed, day)
    assert archive.body(changed, day, newer.id) == partners.answers([changed], day)[changed] != first[changed]
    assert archive.body(changed, day, older.id) == first[changed]
    (alert,), (_,) = inbox.about(refused.id)
    assert "1 of 2 clients not archived" in alert
    assert f"client {emptied} " in alert
    assert "run again with force" in alert

    forced = pipeline.run(force=True, trigger_date=day, client_ids=[emptied])
    assert forced.state == "success"
    newer, older = archive.versions(emptied, day)
    assert archive.body(emptied, day, newer.id) == b"[]"
    assert archive.body(emptied, day, older.id) == first[emptied]


def test_no_client_is_one_warning_and_no_failure(
    pipeline: Pipeline, partners: Partners, archive: Archive, inbox: Inbox, use_clients: UseClients, new_day: NewDay
) -> None:
    use_clients([])
    day, before = new_day(), partners.last()
    run = pipeline.run(trigger_date=day)

    assert run.state == "success"
    assert run.task("summarize")["state"] == "success"
    manifest = archive.manifest(day)
    assert (manifest["total_clients"], manifest["clients"]) == (0, [])
    sns, slack = inbox.about(run.id, failed=False)
    assert len(sns) == len(slack) == 1
    assert sns[0].startswith(f"WARNING in pipeline {DAG_ID}: no client to archive for {day}")
    assert partners.calls(TOKEN, since=before) == []
