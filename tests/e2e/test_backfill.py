"""A range of days, archived by Airflow's own command, twice."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from local.processes.layout import PROJECT_ROOT, clean_environment
from local.stack.description import Stack
from tests.e2e.conftest import UseClients
from tests.worlds.live.archive import DAG_ID, Archive, key_of
from tests.worlds.live.partners import Partners
from tests.worlds.live.pipeline import BUSINESS_ZONE, Pipeline
from tests.worlds.live.waiting import wait_until

SCHEDULE = "AIRFLOW__PIPELINES__DEX_TRIGGER_ARCHIVE_SCHEDULE"
FIRST = date(2025, 3, 8)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]
"""On Sunday the 9th the clocks of New York went forward."""

CLIENTS = [1001]


def backfill(stack: Stack, *options: str) -> None:
    command = [sys.executable, "-m", "local", "airflow", "--state-dir", str(Path(stack.logs).parent), "backfill"]
    command += ["create", "--dag-id", DAG_ID, "--from-date", str(DAYS[0]), "--to-date", str(DAYS[-1]), *options]
    done = subprocess.run(
        command, cwd=PROJECT_ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "py.warnings" not in done.stdout + done.stderr


def wait_for_days(pipeline: Pipeline, since: datetime) -> list[dict[str, Any]]:
    """The backfill's runs that began after ``since``, when there is one a day and all have ended."""

    def ended() -> list[dict[str, Any]]:
        runs = [
            run
            for run in pipeline.airflow.runs(DAG_ID)
            if run["run_type"] == "backfill"
            and run["state"] in ("success", "failed")
            and datetime.fromisoformat(run["start_date"]) > since
        ]
        return runs if len(runs) == len(DAYS) else []

    return wait_until(ended, what="the runs of the backfill", poll=1.0)


def test_a_range_is_archived_day_by_day_and_a_second_time_nothing_is_written(
    stack: Stack, pipeline: Pipeline, partners: Partners, archive: Archive, use_clients: UseClients
) -> None:
    use_clients(CLIENTS)
    keys = {key_of(client, day) for client in CLIENTS for day in DAYS}

    began = datetime.now(UTC)
    backfill(stack)
    runs = wait_for_days(pipeline, began)
    assert {run["state"] for run in runs} == {"success"}
    minute, hour = map(int, stack.airflow_environment()[SCHEDULE].split()[:2])
    moments = sorted(datetime.fromisoformat(run["logical_date"]).astimezone(BUSINESS_ZONE) for run in runs)
    assert [(moment.date(), moment.time()) for moment in moments] == [(day, time(hour, minute)) for day in DAYS]
    named = sorted(run["dag_run_id"].removeprefix("backfill__")[:16] for run in runs)
    assert named == [f"{day}T{hour:02}:{minute:02}" for day in DAYS]
    for day in DAYS:
        assert archive.manifest(day)["successful_archives"] == len(CLIENTS)
        assert {client: archive.body(client, day) for client in CLIENTS} == partners.answers(CLIENTS, day)
    listing = [version for version in archive.listing("trigger/") if version.key in keys]
    assert sorted(version.key for version in listing) == sorted(keys)

    pipeline.wait_until_no_backfill()
    began = datetime.now(UTC)
    backfill(stack, "--reprocess-behavior", "completed")
    runs = wait_for_days(pipeline, began)
    assert {run["state"] for run in runs} == {"success"}
    assert [archive.manifest(day)["unchanged"] for day in DAYS] == [len(CLIENTS)] * len(DAYS)
    assert [version for version in archive.listing("trigger/") if version.key in keys] == listing
    assert {day: len(partners.questions(day)[CLIENTS[0]]) for day in DAYS} == dict.fromkeys(DAYS, 3)


def test_a_backfill_with_a_misspelt_key_archives_nothing(
    stack: Stack, pipeline: Pipeline, partners: Partners, archive: Archive, use_clients: UseClients
) -> None:
    use_clients(CLIENTS)
    day, before = date(2025, 1, 6), archive.listing()
    began = datetime.now(UTC)
    # The one before is being closed for half a minute, and another is refused meanwhile.
    wait_until(lambda: _started(stack, day, {"clientids": [1001]}), what="a backfill that is taken", poll=5.0)
    (run,) = wait_until(lambda: _ended(pipeline, began), what="its run", poll=1.0)
    assert run["state"] == "failed"
    assert partners.questions(day) == {}
    assert archive.listing() == before


def _started(stack: Stack, day: date, conf: dict[str, Any]) -> bool:
    command = [sys.executable, "-m", "local", "airflow", "--state-dir", str(Path(stack.logs).parent), "backfill"]
    command += ["create", "--dag-id", DAG_ID, "--from-date", str(day), "--to-date", str(day)]
    command += ["--reprocess-behavior", "completed", "--dag-run-conf", json.dumps(conf)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, env=clean_environment(), capture_output=True, check=False)
    return done.returncode == 0


def _ended(pipeline: Pipeline, since: datetime) -> list[dict[str, Any]]:
    return [
        run
        for run in pipeline.airflow.runs(DAG_ID)
        if run["run_type"] == "backfill"
        and run["state"] in ("success", "failed")
        and datetime.fromisoformat(run["start_date"]) > since
    ]
