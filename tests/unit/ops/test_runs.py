"""Which runs and tasks come first, and what is said of a paused DAG, asked of an API that orders as PostgreSQL does."""

import json
from datetime import date
from typing import Any

import httpx
import pytest

from ops.archive import backfill
from ops.environment import Environment
from ops.report import OpsError
from ops.runs import clear, failed, health, latest_failed, runs

ARCHIVE = "dex_trigger_archive"


def run(name: str, run_after: str, start: str | None, end: str | None, state: str = "failed") -> dict[str, Any]:
    times = {"run_after": run_after, "start_date": start, "end_date": end}
    return {"dag_id": ARCHIVE, "dag_run_id": name, "state": state, **times}


def task(name: str, start: str | None, end: str) -> dict[str, Any]:
    return {**run("r", end, start, end), "task_id": name, "map_index": -1}


RUNS = [
    run("tonight", "2026-11-29T20:30Z", "2026-11-29T20:30Z", "2026-11-29T20:40Z"),
    run("backfill of March", "2026-03-02T20:30Z", "2026-11-30T10:00Z", "2026-11-30T10:05Z"),
    run("of March, in a queue", "2026-03-03T20:30Z", None, None, "queued"),
]
TASKS = [
    task("lost in the queue", None, "2026-11-01T00:00Z"),
    task("failed today", "2026-11-30T10:00Z", "2026-11-30T10:05Z"),
]


class Airflow:
    """Lists these, and takes everything."""

    def __init__(self, *, paused: bool = False) -> None:
        self.paused = paused
        self.posted: list[str] = []
        stack = dict.fromkeys(("airflow_url", "airflow_token_url"), "http://127.0.0.1:8080")
        self.environment = Environment("local", None, None, stack, httpx.Client(transport=httpx.MockTransport(self)))

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        answer: dict[str, Any] = {"access_token": "t", "is_paused": self.paused, "state": "failed"}
        answer |= {"backfills": [], "import_errors": [], "dag_runs": [run("r", "", None, None)]}
        answer["dags"] = [{"dag_id": ARCHIVE}] if self.paused else []
        if path.endswith("/health"):
            return httpx.Response(200, json={"scheduler": {"status": "healthy"}, "triggerer": {"status": None}})
        if "/xcomEntries/" in path:
            return httpx.Response(404)
        if request.method == "POST":
            self.posted.append(path.rpartition("/")[2])
            answer |= {"task_instances": TASKS}
        if path.endswith("/list"):
            body = json.loads(request.content)
            by = body["order_by"].removeprefix("-") if "order_by" in body else "dag_run_id"
            for name, rows in {"task_instances": TASKS, "dag_runs": RUNS}.items():
                wanted = [row for row in rows if row["state"] in body.get("states", body.get("state", [row["state"]]))]
                # Where it has no such time, a row is the greatest.
                wanted.sort(key=lambda row: (row[by] is None, row[by] or ""), reverse=True)
                answer[name] = wanted[body.get("page_offset", 0) :][: body["page_limit"]]
                answer["total_entries"] = len(wanted)
        return httpx.Response(200, json=answer)


def test_latest_runs_are_those_that_began_last_whatever_day_they_are_for_and_those_in_a_queue_hide_none() -> None:
    found = runs(Airflow().environment, ARCHIVE, limit=2)
    assert [row["run"] for row in found.rows] == ["backfill of March", "tonight"]
    assert found.notes == [f"Queued: 1, the first of them of March, in a queue of {ARCHIVE}."]


def test_run_that_failed_last_is_cleared_whatever_day_it_is_for() -> None:
    assert latest_failed(Airflow().environment, ARCHIVE) == "backfill of March"


def test_task_that_failed_before_it_began_does_not_hide_those_that_failed_later() -> None:
    assert [row["task"] for row in failed(Airflow().environment, None, limit=1).rows] == ["failed today"]


@pytest.mark.parametrize("paused", [False, True])
def test_clearing_says_that_a_paused_dag_does_nothing_yet(paused: bool) -> None:
    report = clear(Airflow(paused=paused).environment, ARCHIVE, "r", dry_run=False)
    assert [row["task"] for row in report.rows] == ["lost in the queue", "failed today"]
    assert [ARCHIVE in note and "is paused" in note for note in report.notes] == [True] * paused


def test_backfill_of_a_paused_dag_is_refused_as_its_runs_would_wait_but_can_be_planned() -> None:
    airflow, day = Airflow(paused=True), date(2026, 3, 1)
    backfill(airflow.environment, day, day, None, again=False, dry_run=True)
    with pytest.raises(OpsError, match="unpause it"):
        backfill(airflow.environment, day, day, None, again=False, dry_run=False)
    assert airflow.posted == ["dry_run"]


@pytest.mark.parametrize("paused", [False, True])
def test_part_of_airflow_that_never_ran_is_not_healthy_and_a_dag_that_is_paused_is_named(paused: bool) -> None:
    found = health(Airflow(paused=paused).environment)
    assert found.rows == [{"part": "scheduler", "state": "healthy"}, {"part": "triggerer", "state": "has not run"}]
    assert found.failed
    assert [ARCHIVE in note for note in found.notes] == [True] * paused
