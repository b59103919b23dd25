"""The command line ``ops`` on a live stack: what an operator sees of runs, days, files, owners and dead letters."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.clients import AirflowApi
from local.stack.description import Stack
from ops.__main__ import main
from ops.environment import Environment
from tests.e2e.conftest import NewDay, UseClients
from tests.worlds.live.call_details import Ingest, lines
from tests.worlds.live.delivery import Delivery
from tests.worlds.live.partners import Partners
from tests.worlds.live.pipeline import Pipeline

Ops = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def ops(stack: Stack, capsys: pytest.CaptureFixture[str]) -> Ops:
    """Runs one command with ``--json``: its exit code, and what it printed."""

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        def open_environment(name: str) -> Environment:
            return Environment.open(name, state_directory=Path(stack.env_file).parent)

        code = main(["--environment", "local", "--json", *arguments], open_environment=open_environment)
        printed = capsys.readouterr()
        assert printed.out, printed.err
        return code, json.loads(printed.out)

    return run


def test_failed_client_is_found_with_its_reason_and_the_archived_ones_with_their_digest(
    ops: Ops, pipeline: Pipeline, partners: Partners, use_clients: UseClients, new_day: NewDay
) -> None:
    use_clients([1001, 1002])
    day = new_day()
    partners.order({"status": 404, "match": {"clientId": 1002, "triggerDate": day.isoformat()}})
    run = pipeline.run(trigger_date=day)
    assert run.state == "failed"

    _, found = ops("runs", "dex_trigger_archive", "--limit", "1")
    assert [(row["run"], row["state"]) for row in found["rows"]] == [(run.id, "failed")]

    _, found = ops("failed", "dex_trigger_archive")
    reasons = {row["task"]: row["reason"] for row in found["rows"] if row["run"] == run.id}
    (mapped,) = [reason for task, reason in reasons.items() if task.startswith("archive_client [")]
    assert "DEX API answered 404" in mapped

    code, found = ops("clear", "dex_trigger_archive", run.id, "--dry-run")
    assert (code, len(found["rows"])) == (0, 2)

    _, found = ops("day", day.isoformat())
    assert [(row["client"], row["outcome"]) for row in found["rows"]] == [(1002, "failed"), (1001, "archived")]
    assert "1 of 2 clients archived" in found["title"]

    code, found = ops("day", day.isoformat(), "--client", "1001")
    (version,) = found["rows"]
    assert code == 0
    assert version["proof"] == "as stored"
    assert version["sha256"] == hashlib.sha256(partners.answers([1001], day)[1001]).hexdigest()

    assert ops("day", day.isoformat(), "--client", "1002")[0] == 1


def test_dags_that_are_paused_are_named(ops: Ops, airflow: AirflowApi) -> None:
    _, found = ops("health")
    paused = sorted(dag["dag_id"] for dag in airflow.request("GET", "/dags")["dags"] if dag["is_paused"])
    assert found["notes"] == [f"Paused, so that none of their runs starts: {', '.join(paused)}."] * bool(paused)


def test_day_without_a_run_says_so(ops: Ops, new_day: NewDay) -> None:
    _, found = ops("day", new_day().isoformat())
    assert found["rows"] == []
    assert "No run has ended" in found["notes"][0]


def test_refused_batch_is_listed_shown_and_replayed(
    ops: Ops, ingest: Ingest, replay: Pipeline, partners: Partners
) -> None:
    ingest.forget_dead_letters()
    file = ingest.drop("operated.txt", lines(3))
    waiting = [row["file"] for row in ops("files")[1]["rows"] if row["state"] == "waiting"]
    assert file.key in waiting
    partners.order(file.rule(status=422))
    assert ingest.pipeline.run(key=file.key).state == "success"
    done = {row["file"]: row["state"] for row in ops("files")[1]["rows"]}
    assert done[file.key] == "processed with dead letters"

    _, found = ops("dead-letters", "list")
    (letter,) = [row for row in found["rows"] if row["kind"] == "batch"]
    assert (letter["file"], letter["status"], letter["records"]) == (file.key, 422, "1-3")
    _, found = ops("dead-letters", "show", letter["what"])
    assert len(found["rows"]) == 3

    partners.order()
    assert ops("dead-letters", "replay", "--dry-run")[0] == 0
    assert ingest.taken(file) == [0]
    assert ops("dead-letters", "replay", letter["what"], "--yes")[0] == 0
    assert ingest.taken(file) == [1]
    assert ingest.dead_letters() == []


def test_owner_sees_what_waits_and_where_it_goes(ops: Ops, events_api: Delivery) -> None:
    owner = events_api.owner("operated")
    event = events_api.post(owner)
    _, found = ops("owner", owner.name)
    assert [(row["event_id"], row["status"]) for row in found["rows"]] == [(event, "pending")]
    assert found["notes"][0].startswith("1 pending, 0 failed")
