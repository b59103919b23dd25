"""Runs of the DAGs: the latest ones, what failed in them and why, and new ones."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from ops.environment import Environment
from ops.report import OpsError, Report, age, moment

DAGS = (
    "dex_trigger_archive",
    "energy_auction",
    "call_details_watch",
    "call_details_ingest",
    "call_details_replay",
    "event_delivery",
)

PAGE = 100
"""What Airflow gives at once; asked for more (``[api] maximum_page_limit``) it gives no more, and does not say so."""

_ENDED = ("success", "failed")
_REASON = "failure"
"""XCom in which a task leaves why it failed."""


def runs(environment: Environment, dag_id: str | None, *, limit: int = 10) -> Report:
    """The latest runs of one DAG, or of all; of those that have not begun only how many there are, and the first."""

    def listed(states: list[str], order: str) -> dict[str, Any]:
        asked = {"dag_ids": [dag_id] if dag_id else [*DAGS], "states": states, "order_by": order, "page_limit": limit}
        return dict(environment.airflow("POST", "/dags/~/dagRuns/list", body=asked))

    # Not by the time that they are for: a backfill's is long ago, and that of a run that was cleared, too. PostgreSQL
    # takes what has not begun for the latest, and of that there may be hundreds.
    found = listed(["running", *_ENDED], "-start_date")["dag_runs"]
    queued = listed(["queued"], "run_after")
    rows = [
        {
            "dag": run["dag_id"],
            "run": run["dag_run_id"],
            "state": run["state"],
            "started": run["start_date"],
            "seconds": _seconds(run),
            "note": (run.get("note") or "").partition("\n")[0].strip("*"),
        }
        for run in found
    ]
    columns = {"dag": "DAG", "run": "run", "state": "state", "started": "started", "seconds": "s", "note": "note"}
    first = [f"{run['dag_run_id']} of {run['dag_id']}" for run in queued["dag_runs"][:1]]
    notes = [f"Queued: {queued['total_entries']:,}, the first of them {run}." for run in first]
    return Report(f"latest runs in {environment.name}", columns, rows, notes)


def failed(environment: Environment, dag_id: str | None, *, limit: int = 20) -> Report:
    """The tasks that failed, the newest first, each with its reason."""
    found = environment.airflow(
        "POST",
        "/dags/~/dagRuns/~/taskInstances/list",
        body={
            "dag_ids": [dag_id] if dag_id else [*DAGS],
            "state": ["failed"],
            # A task whose worker was lost before it began has no start, which PostgreSQL takes for the latest.
            "order_by": "-end_date",
            "page_limit": limit,
        },
    )["task_instances"]
    rows = [
        {
            "dag": task["dag_id"],
            "run": task["dag_run_id"],
            "task": _task_name(task),
            "ended": age(ended) if (ended := moment(task["end_date"])) else None,
            "reason": _reason(environment, task),
        }
        for task in found
    ]
    columns = {"dag": "DAG", "run": "run", "task": "task", "ended": "ago", "reason": "reason"}
    notes = ("To repeat the failed tasks of a run, and what follows them: 'ops clear DAG RUN'.",) if rows else ()
    return Report(f"failed tasks in {environment.name}", columns, rows, notes)


def start(environment: Environment, dag_id: str, conf: dict[str, Any]) -> str:
    """Start a run and return its id; raises OpsError if Airflow refuses it, or the DAG is paused."""
    refuse_paused(environment, dag_id)
    body = {"logical_date": None, "conf": conf}
    return str(environment.airflow("POST", f"/dags/{dag_id}/dagRuns", body=body)["dag_run_id"])


def refuse_paused(environment: Environment, dag_id: str) -> None:
    """Raise OpsError if a DAG is paused."""
    if _is_paused(environment, dag_id):
        command = f"ops airflow PATCH /dags/{dag_id} '{{\"is_paused\": false}}'"
        raise OpsError(f"{dag_id} is paused, so a run would wait without end: unpause it first: {command}")


def _is_paused(environment: Environment, dag_id: str) -> bool:
    return bool(environment.airflow("GET", f"/dags/{dag_id}")["is_paused"])


def latest_failed(environment: Environment, dag_id: str) -> str | None:
    """The id of the run of a DAG that failed last, if one has."""
    asked = {"dag_ids": [dag_id], "states": ["failed"], "order_by": "-end_date", "page_limit": 1}
    found = environment.airflow("POST", "/dags/~/dagRuns/list", body=asked)["dag_runs"]
    return str(found[0]["dag_run_id"]) if found else None


def clear(environment: Environment, dag_id: str, run_id: str, *, dry_run: bool) -> Report:
    """Have the failed tasks of a run done again, and what follows them; or only show the tasks.

    Of a run that Airflow ended at its limit, or somebody by hand, also what was skipped then: the operations page has
    the same rule (tasksToClear).
    """
    run = _run(environment, dag_id, run_id)
    left = _tasks(environment, dag_id, run_id, ["failed", "upstream_failed", "skipped"])
    again = [task for task in left if task["state"] != "skipped"]
    if run["state"] == "failed" and not any(_failed_the_run(task, run) for task in again):
        again = left
    tasks: list[dict[str, Any]] = []
    if again:
        # Named, as Airflow ignores include_downstream without.
        named = [[task["task_id"], task["map_index"]] if task["map_index"] >= 0 else task["task_id"] for task in again]
        body = {"dag_run_id": run_id, "task_ids": named, "only_failed": False, "include_downstream": True}
        asked = {**body, "dry_run": dry_run}
        tasks = environment.airflow("POST", f"/dags/{dag_id}/clearTaskInstances", body=asked)["task_instances"]
    rows = [{"task": _task_name(task), "state": task["state"]} for task in tasks]
    title = f"{'would clear' if dry_run else 'cleared'}: run {run_id} of {dag_id}"
    waits = rows and _is_paused(environment, dag_id)
    notes = [f"{dag_id} is paused: what is cleared waits until it is unpaused in Airflow."] if waits else []
    if not rows:
        notes = [f"Nothing to clear: no task of the run has failed, and it is {run['state']}."]
    return Report(title, {"task": "task", "state": "state"}, rows, notes)


def _failed_the_run(task: dict[str, Any], run: dict[str, Any]) -> bool:
    """Whether a run failed because this task did: not one of many, but the last one, or one that all others follow.

    What failed before the run was cleared, and was not cleared with it, is not why it failed again.
    """
    began, ended = moment(run["start_date"]), moment(task["end_date"])
    return task["map_index"] < 0 and began is not None and (ended is None or ended >= began)


def _run(environment: Environment, dag_id: str, run_id: str) -> dict[str, Any]:
    """A run as Airflow describes it; OpsError if there is none."""
    # Not by a path with its id: MWAA documents 64 characters at most for a path.
    asked = {"run_id_prefix_pattern": run_id, "order_by": "run_id", "limit": PAGE}
    for found in environment.airflow("GET", f"/dags/{dag_id}/dagRuns", params=asked)["dag_runs"]:
        if found["dag_run_id"] == run_id:
            return dict(found)
    raise OpsError(f"{dag_id} has no run {run_id}: 'ops runs {dag_id}' lists the latest")


def _tasks(environment: Environment, dag_id: str, run_id: str, states: list[str]) -> list[dict[str, Any]]:
    """All tasks of a run that are in these states."""
    asked = {"dag_ids": [dag_id], "dag_run_ids": [run_id], "state": states, "page_limit": PAGE}
    found: list[dict[str, Any]] = []
    while len(found) % PAGE == 0:
        page = environment.airflow(
            "POST", "/dags/~/dagRuns/~/taskInstances/list", body={**asked, "page_offset": len(found)}
        )["task_instances"]
        if not page:
            break
        found += page
    return found


def health(environment: Environment) -> Report:
    """What Airflow says of its own parts, the DAG files that it cannot import, and which DAGs are paused."""
    parts = environment.airflow("GET", "/monitor/health")
    broken = environment.airflow("GET", "/importErrors")["import_errors"]
    # Airflow gives no status to a triggerer or DAG processor that has never run; the pipelines need both.
    rows = [{"part": name, "state": (part or {}).get("status") or "has not run"} for name, part in parts.items()]
    rows += [{"part": error["filename"], "state": error["stack_trace"].strip().splitlines()[-1]} for error in broken]
    failed = any(row["state"] != "healthy" for row in rows)
    paused = environment.airflow("GET", "/dags", params={"paused": "true", "limit": PAGE})["dags"]
    names = ", ".join(sorted(dag["dag_id"] for dag in paused))
    notes = [f"Paused, so that none of their runs starts: {names}."] if paused else []
    return Report(f"Airflow in {environment.name}", {"part": "part", "state": "state"}, rows, notes, failed=failed)


def wait(environment: Environment, dag_id: str, run_id: str, *, timeout: float = 1800.0) -> dict[str, Any]:
    """Wait until a run has ended and return it as Airflow describes it; OpsError if it is not within ``timeout`` s."""
    deadline = time.monotonic() + timeout
    while True:
        run = _run(environment, dag_id, run_id)
        if run["state"] in _ENDED:
            return run
        if time.monotonic() > deadline:
            raise OpsError(f"run {run_id} of {dag_id} is still {run['state']}: look at it in Airflow")
        time.sleep(2.0)


def returned(environment: Environment, dag_id: str, run_id: str, task_id: str) -> Any:
    """What a task of a run returned; None if it returned nothing."""
    return _xcom(environment, dag_id, run_id, task_id, "return_value", -1)


def _reason(environment: Environment, task: dict[str, Any]) -> str:
    try:
        found = _xcom(environment, task["dag_id"], task["dag_run_id"], task["task_id"], _REASON, task["map_index"])
    except OpsError as error:
        # Which tasks failed may be seen by people who may not see XComs.
        return f"the reason cannot be read: {error}"
    return str(found or "no reason was left: see the task's log")


def _xcom(environment: Environment, dag_id: str, run_id: str, task_id: str, key: str, map_index: int) -> Any:
    # Longer than MWAA documents, and Airflow has no shorter way to a value; AWS's own sensors of MWAA send such paths.
    path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/xcomEntries/{key}"
    try:
        return environment.airflow("GET", path, params={"map_index": map_index, "deserialize": "true"})["value"]
    except OpsError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def _task_name(task: dict[str, Any]) -> str:
    if task["map_index"] < 0:
        return str(task["task_id"])
    return f"{task['task_id']} [{task.get('rendered_map_index') or task['map_index']}]"


def _seconds(run: dict[str, Any]) -> int | None:
    began, ended = moment(run["start_date"]), moment(run["end_date"])
    return round((ended - began).total_seconds()) if began and ended else None
