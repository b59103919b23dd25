"""``dex_trigger_archive`` on the stack: started, awaited and read through Airflow's public API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from local.airflow_api import AirflowApi
from local.stack import Stack
from tests.e2e.kit.waiting import wait_until

DAG_ID = "dex_trigger_archive"
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Ended:
    """A run that has ended, and its task instances."""

    id: str
    state: str
    tasks: list[dict[str, Any]]

    def task(self, task_id: str) -> dict[str, Any]:
        """The one instance of an unmapped task."""
        (found,) = [task for task in self.tasks if task["task_id"] == task_id]
        return found

    @property
    def mapped(self) -> dict[str, dict[str, Any]]:
        """The instances of ``archive_client`` by the name that the UI shows."""
        return {str(task["rendered_map_index"]): task for task in self.tasks if task["task_id"] == "archive_client"}


class Pipeline:
    """The pipeline of one stack."""

    def __init__(self, stack: Stack, airflow: AirflowApi) -> None:
        self.airflow = airflow
        self._airflow_logs = Path(stack.logs).parent / "airflow" / "logs"

    def start(self, *, day: date | None = None, logical_date: datetime | None = None, **params: Any) -> str:
        """Start a run with these params; returns its id."""
        conf = params | ({"trigger_date": day.isoformat()} if day else {})
        return self.airflow.trigger(DAG_ID, conf=conf, logical_date=logical_date.isoformat() if logical_date else None)

    def ended(self, run_id: str, *, timeout: float = 90.0) -> Ended:
        """Wait for the run's end."""
        run = self.airflow.wait(DAG_ID, run_id, timeout=timeout, poll=POLL_SECONDS)
        return Ended(run_id, run["state"], self.airflow.tasks(DAG_ID, run_id))

    def run(self, **how: Any) -> Ended:
        """Start a run as :meth:`start` does, and wait for its end."""
        return self.ended(self.start(**how))

    def run_ids(self) -> list[str]:
        """The ids of all runs until now."""
        return [run["dag_run_id"] for run in self.airflow.runs(DAG_ID)]

    def wait_until_idle(self) -> None:
        """Wait until no run is queued or running."""
        active = {"state": ["queued", "running"]}
        path = f"/dags/{DAG_ID}/dagRuns"
        wait_until(
            lambda: self.airflow.request("GET", path, params=active)["total_entries"] == 0,
            what="the end of every run",
            timeout=120,
        )

    def summary(self, run_id: str) -> dict[str, Any]:
        """What ``summarize`` left in XCom."""
        found: dict[str, Any] = self.airflow.xcom(DAG_ID, run_id, "summarize")
        return found

    def log(self, run_id: str, task_id: str, *, attempt: int = 1, map_index: int = -1) -> str:
        """The log of one attempt, as the UI shows it; empty while there is none."""
        path = f"/dags/{DAG_ID}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/logs/{attempt}"
        content = self.airflow.request("GET", path, params={"map_index": map_index})["content"]
        return "\n".join(str(line) for line in content)

    def wait_for_failure_callback(self, run_id: str) -> None:
        """Wait until the DAG's own failure callback, which might alert a second time, has done its work."""
        logs = self._airflow_logs / "dag_processor"

        def done() -> bool:
            texts = (path.read_text(errors="replace") for path in logs.rglob("dex_trigger_archive.py.log"))
            return any(
                run_id in line and ("its summary has told people" in line or "delivered through" in line)
                for text in texts
                for line in text.splitlines()
            )

        wait_until(done, what=f"the failure callback of run {run_id}")
