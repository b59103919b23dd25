"""A pipeline on the stack: started, awaited and read through Airflow's public API."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from local.clients import AirflowApi
from tests.worlds.live.waiting import WAIT_SECONDS, wait_until

POLL_SECONDS = 0.5
BUSINESS_ZONE = ZoneInfo("America/New_York")


def far_schedules() -> dict[str, str]:
    """Options for which no run of archive and auction begins by itself while tests run.

    The archive's is about as far as a daily one can be, twelve hours, and no hour that a change of the clocks skips or
    repeats; the auction's is five months from now.
    """
    now = datetime.now(UTC)
    opposite = now.astimezone(BUSINESS_ZONE) + timedelta(hours=12)
    if opposite.hour in (1, 2):
        opposite += timedelta(hours=2)
    return {
        "AIRFLOW__PIPELINES__DEX_TRIGGER_ARCHIVE_SCHEDULE": f"{opposite.minute} {opposite.hour} * * *",
        "AIRFLOW__PIPELINES__ENERGY_AUCTION_SCHEDULE": f"0 0 1 {(now.month + 4) % 12 + 1} *",
    }


@dataclass(frozen=True)
class Ended:
    id: str
    state: str
    tasks: list[dict[str, Any]]

    def task(self, task_id: str) -> dict[str, Any]:
        (found,) = [task for task in self.tasks if task["task_id"] == task_id]
        return found

    @property
    def mapped(self) -> dict[str, dict[str, Any]]:
        """The instances of the mapped task by the name that the UI shows, up to a client's id or an order's index."""
        return {
            re.sub(r"^([0-9]+|order [0-9]+) .+", r"\1", str(task["rendered_map_index"])): task
            for task in self.tasks
            if task["map_index"] >= 0
        }


class Pipeline:
    def __init__(self, dag_id: str, airflow: AirflowApi) -> None:
        self.dag_id = dag_id
        self.airflow = airflow

    def start(self, *, logical_date: datetime | None = None, **params: Any) -> str:
        """Start a run with these params, dates as ISO 8601; returns its id."""
        conf = {name: value.isoformat() if isinstance(value, date) else value for name, value in params.items()}
        at = logical_date.isoformat() if logical_date else None
        return self.airflow.trigger(self.dag_id, conf=conf, logical_date=at)

    def ended(self, run_id: str, *, timeout: float = WAIT_SECONDS) -> Ended:
        run = self.airflow.wait(self.dag_id, run_id, timeout=timeout, poll=POLL_SECONDS)
        return Ended(run_id, run["state"], self.tasks(run_id))

    def run(self, **how: Any) -> Ended:
        """Start a run as :meth:`start` does, and wait for its end."""
        return self.ended(self.start(**how))

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        return self.airflow.tasks(self.dag_id, run_id)

    def run_ids(self) -> list[str]:
        return [run["dag_run_id"] for run in self.airflow.runs(self.dag_id)]

    def wait_until_idle(self) -> None:
        active = {"state": ["queued", "running"]}
        path = f"/dags/{self.dag_id}/dagRuns"
        wait_until(
            lambda: self.airflow.request("GET", path, params=active)["total_entries"] == 0,
            what=f"the end of every run of {self.dag_id}",
        )

    def wait_until_no_backfill(self) -> None:
        """Wait until another backfill is taken: the scheduler looks every half minute whether one is complete."""
        asked = {"dag_id": self.dag_id}
        wait_until(
            lambda: all(
                each["completed_at"] for each in self.airflow.request("GET", "/backfills", params=asked)["backfills"]
            ),
            what="the end of the backfill before",
        )

    def clear(self, run_id: str, *task_ids: str) -> None:
        """Have these tasks of a run, or all of them, done again, as somebody does in the UI."""
        asked: dict[str, Any] = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "reset_dag_runs": True}
        asked |= {"task_ids": list(task_ids)} if task_ids else {}
        self.airflow.request("POST", f"/dags/{self.dag_id}/clearTaskInstances", json=asked)

    def set_state(self, run_id: str, task_id: str, state: str, *, map_index: int) -> None:
        """Give a task of a run that state, as somebody does in the UI."""
        path = f"/dags/{self.dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}"
        index = "" if map_index < 0 else f"/{map_index}"
        self.airflow.request("PATCH", path + index, json={"new_state": state})

    def summary(self, run_id: str) -> dict[str, Any]:
        """What ``summarize`` left in XCom."""
        return self.airflow.xcom(self.dag_id, run_id, "summarize")

    def log(self, run_id: str, task_id: str, *, attempt: int = 1, map_index: int = -1) -> str:
        """The log of one attempt, as the UI shows it; empty while there is none."""
        return "\n".join(map(str, self.log_lines(run_id, task_id, attempt=attempt, map_index=map_index)))

    def log_lines(
        self, run_id: str, task_id: str, *, attempt: int = 1, map_index: int = -1
    ) -> Sequence[Mapping[str, Any]]:
        """The same, line by line: ``event``, ``level``, ``logger`` and more."""
        path = f"/dags/{self.dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/logs/{attempt}"
        return self.airflow.request("GET", path, params={"map_index": map_index})["content"]
