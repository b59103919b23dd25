"""The bench: a local stack of its own, and one run of a DAG on it, observed."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from benchmarks.cpu import CpuMeter, CpuUse
from include.archive.models import Client, client_query, clients_from_rows
from local.clients import AirflowApi
from local.processes.layout import PROJECT_ROOT, choose_ports
from local.processes.supervisor import StackError
from local.sample.client_database import create_client_database
from local.stack.control import Event, StackOptions, running_stack
from local.stack.description import Stack

ARCHIVE_DAG, ARCHIVE_TASK = "dex_trigger_archive", "archive_client"
AUCTION_DAG = "energy_auction"
INGEST_DAG = "call_details_ingest"
DELIVERY_DAG = "event_delivery"
EMPTY_DAG, EMPTY_TASK = "benchmark_nothing", "do_nothing"
EMPTY_DAG_FILE = PROJECT_ROOT / "benchmarks" / "dags" / f"{EMPTY_DAG}.py"
TRIGGER_PATH = "/data-exchange/trigger"
LATENCY_MS = 50.0
"""Of an answer of the call-details API, and of receivers of events."""

_BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"
# 29 February: no run between the measured ones; of all but the archive one when the DAG is switched on, for the last
# such day.
_HARDLY_EVER = "0 0 29 2 *"
_RUN_SECONDS = 1800.0
_DAG_SECONDS = 90.0


class BenchmarkError(Exception):
    """A run did not do what was to be measured; its numbers would mean nothing."""


@dataclass(frozen=True)
class Run:
    """One observed run.

    Args:
        wall: seconds from the trigger to the run's end, as Airflow recorded it.
        tasks: task instances as Airflow's API describes them.
        cpu: CPU used meanwhile.
        peak_calls: most calls of the partner's API at once, as its stub saw them.
    """

    dag_id: str
    run_id: str
    wall: float
    triggered: float
    tasks: list[dict[str, Any]] = field(repr=False)
    cpu: CpuUse
    peak_calls: int

    def of(self, task_id: str) -> list[dict[str, Any]]:
        """The instances of one task."""
        return [task for task in self.tasks if task["task_id"] == task_id]

    def durations(self, task_id: str) -> list[float]:
        """Seconds from start to end of each instance of a task."""
        return [seconds(task["end_date"]) - seconds(task["start_date"]) for task in self.of(task_id)]

    def span(self, task_id: str) -> tuple[float, float]:
        """When the first instance started and the last one ended, in seconds after the trigger."""
        starts = [seconds(task["start_date"]) for task in self.of(task_id)]
        ends = [seconds(task["end_date"]) for task in self.of(task_id)]
        return min(starts) - self.triggered, max(ends) - self.triggered

    def to_document(self, steps: Sequence[str]) -> dict[str, Any]:
        """Its numbers; of its tasks ``steps``, the second one is mapped."""
        return {
            "wall": self.wall,
            "peak_calls": self.peak_calls,
            "cpu": self.cpu.to_document(),
            "spans": {task_id: self.span(task_id) for task_id in steps},
            "task_seconds": sorted(self.durations(steps[1])),
        }


def connection(stack: Stack, name: str) -> dict[str, Any]:
    """A connection of the stack's, as Airflow has it."""
    secret = stack.aws("secretsmanager").get_secret_value(SecretId=f"airflow/connections/{name}")["SecretString"]
    found: dict[str, Any] = json.loads(secret)
    return found


def token_form(api: dict[str, Any]) -> dict[str, str]:
    """What the DEX API's token endpoint is sent, by its connection."""
    return {
        "grant_type": "client_credentials",
        "client_id": api["login"],
        "client_secret": api["password"],
        "scope": api["extra"]["scope"],
    }


class Bench:
    """A running stack, made ready for measuring."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._days = _days()

    @property
    def task_logs(self) -> Path:
        """Where the logs of tasks lie."""
        return Path(self.stack.logs).parent / "airflow" / "logs"

    def fresh_day(self) -> date:
        """A trigger date that nothing was archived for."""
        return next(self._days)

    def switch_on(self, dag_id: str) -> None:
        """Let a DAG run, as soon as Airflow has read its file."""
        deadline = time.monotonic() + _DAG_SECONDS
        with AirflowApi(self.stack) as airflow:
            while time.monotonic() < deadline:
                with suppress(StackError):
                    return airflow.unpause(dag_id)
                time.sleep(1.0)
        raise BenchmarkError(f"Airflow has not read the DAG {dag_id} within {_DAG_SECONDS:.0f} s")

    def wait_until_idle(self, dag_id: str) -> None:
        """Wait until no run of a DAG is left: not the one either that its schedule starts when it is switched on."""
        with AirflowApi(self.stack) as airflow:
            for run in airflow.runs(dag_id):
                airflow.wait(dag_id, run["dag_run_id"], timeout=_RUN_SECONDS, poll=1.0)

    def set_clients(self, number: int) -> list[Client]:
        """Let the client database have so many clients, all of which the archive's query selects."""
        path = Path(self.stack.client_database)
        create_client_database(path, clients=number, eligible_share=1.0)
        with closing(sqlite3.connect(path)) as database:
            return clients_from_rows(database.execute(client_query()))[0]

    def set_latency(self, milliseconds: float) -> None:
        """Let the DEX API take that long for each answer, and never fail."""
        rules = [{"path": TRIGGER_PATH, "latency_ms": milliseconds}]
        httpx.put(f"{self.stack.partners_url}/control", json={"rules": rules}).raise_for_status()

    def run(self, dag_id: str, conf: dict[str, Any], *, api: str = TRIGGER_PATH) -> Run:
        """Run a DAG to its end; the calls at once of the partners' ``api`` path are counted.

        Raises:
            BenchmarkError: the run failed.
        """
        journal = f"{self.stack.partners_url}/journal"
        httpx.delete(journal).raise_for_status()
        with AirflowApi(self.stack) as airflow:
            with CpuMeter(self.stack) as meter:
                triggered = time.time()
                run_id = airflow.trigger(dag_id, conf=conf)
                run = airflow.wait(dag_id, run_id, timeout=_RUN_SECONDS, poll=1.0)
            if run["state"] != "success":
                raise BenchmarkError(f"run {run_id} of {dag_id} ended {run['state']}: see the logs in {self.task_logs}")
            tasks = airflow.tasks(dag_id, run_id)
        peak = httpx.get(journal, params={"limit": 1}).raise_for_status().json()["max_concurrent"]
        wall = seconds(run["end_date"]) - triggered
        return Run(dag_id, run_id, wall, triggered, tasks, meter.use, peak.get(api, 0))

    def archive(self, clients: int, day: date) -> Run:
        """Archive a day that nothing was archived for; all clients of the database.

        Raises:
            BenchmarkError: not every client was archived anew.
        """
        run = self.run(ARCHIVE_DAG, {"trigger_date": day.isoformat()})
        with AirflowApi(self.stack) as airflow:
            summary = airflow.xcom(ARCHIVE_DAG, run.run_id, "summarize")
        if (summary["successful_archives"], summary["unchanged"]) != (clients, 0):
            raise BenchmarkError(f"run {run.run_id} did not archive {clients} clients anew: {summary['manifest']}")
        return run

    def nothing(self, tasks: int, *, idle_seconds: float = 0.0) -> Run:
        """Run the empty DAG with so many mapped tasks."""
        return self.run(EMPTY_DAG, {"tasks": tasks, "seconds": idle_seconds})


@contextmanager
def bench(state_directory: Path, *, on_event: Callable[[Event], None]) -> Iterator[Bench]:
    """A stack of this benchmark's own, with the empty DAG beside dags/; both DAGs have run once.

    What only the first run after a start pays (imports of the api-server, for one) is not measured.
    """
    bundles = [
        {"name": "dags-folder", "classpath": _BUNDLE, "kwargs": {}},
        {"name": "benchmarks", "classpath": _BUNDLE, "kwargs": {"path": str(EMPTY_DAG_FILE.parent)}},
    ]
    options = StackOptions(
        state_directory=state_directory,
        # Any free port, not 8080: another stack that starts meanwhile would want that one too.
        airflow_port=choose_ports("airflow")["airflow"],
        airflow_options={
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            **{
                f"AIRFLOW__PIPELINES__{each.upper()}_SCHEDULE": _HARDLY_EVER
                for each in (ARCHIVE_DAG, AUCTION_DAG, DELIVERY_DAG)
            },
        },
    )
    with running_stack(options, on_event=on_event) as stack:
        made = Bench(stack)
        for dag_id in (ARCHIVE_DAG, EMPTY_DAG):
            made.switch_on(dag_id)
        made.set_latency(0)
        made.set_clients(20)
        made.archive(20, made.fresh_day())
        made.nothing(20)
        yield made


def seconds(moment: str) -> float:
    """Seconds since the epoch of a time as Airflow's API writes it."""
    return datetime.fromisoformat(moment).timestamp()


def _days() -> Iterator[date]:
    """Days that have come, whatever the zone."""
    day = datetime.now(UTC).date() - timedelta(days=400)
    while True:
        yield day
        day += timedelta(days=1)
