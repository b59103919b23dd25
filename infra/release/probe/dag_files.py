"""The DAG files and the plugins: what parsing them takes, what fails, and the limits of every DAG and task."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import sys
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

RUNS = 400
"""So many runs of a schedule are looked at for its shortest interval: more than a year of a daily one."""


def parse_seconds(folder: Path) -> dict[str, float]:
    """CPU seconds that parsing each file takes in a process of its own, as the DAG processor and every task do it."""
    # What both have imported before they parse.
    importlib.import_module("airflow.sdk.execution_time.task_runner")
    importlib.import_module("airflow.dag_processing.dagbag")
    forked = multiprocessing.get_context("fork")
    found = {}
    for file in sorted(folder.glob("*.py")):
        ours, theirs = forked.Pipe(duplex=False)
        process = forked.Process(target=_parse_once, args=(file, theirs))
        process.start()
        theirs.close()
        with contextlib.suppress(EOFError):
            # Of a file that ends its process nothing comes; loading it again says why.
            found[file.stem] = ours.recv()
        process.join()
    return found


def _parse_once(file: Path, answer: Any) -> None:
    from airflow.dag_processing.dagbag import BundleDagBag

    began = time.process_time()
    BundleDagBag(dag_folder=file, safe_mode=False, load_op_links=False, bundle_path=file.parent)
    answer.send(time.process_time() - began)


def probe_plugins(folder: Path) -> dict[str, Any]:
    """The plugin scan: which plugins it registers, what fails, and which modules it runs under a name not their own."""
    from airflow import plugins_manager

    plugins_manager.ensure_plugins_loaded()
    ours = [
        plugin
        for plugin in plugins_manager.get_plugin_info(["name", "source"])
        if "$PLUGINS_FOLDER" in str(plugin["source"])
    ]
    strays = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder):
            path = Path(file).relative_to(folder)
            own = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
            if name != own:
                strays[name] = str(path)
    return {
        "names": [plugin["name"] for plugin in ours],
        "errors": plugins_manager.get_import_errors(),
        "strays": strays,
    }


def probe_dags(folder: Path) -> dict[str, Any]:
    """Every DAG file: the DAGs in it, or why it cannot be loaded."""
    from airflow.dag_processing.dagbag import DagBag

    found = {}
    for file in sorted(folder.glob("*.py")):
        bag = DagBag(dag_folder=str(file))
        errors = list(bag.import_errors.values())
        described = {}
        for dag_id, dag in bag.dags.items():
            try:
                described[dag_id] = describe(dag)
            except Exception as error:  # noqa: BLE001 - whatever Airflow refuses a DAG for is told
                errors.append(f"{dag_id} cannot be stored: {type(error).__name__}: {error}")
        found[file.stem] = {"dags": described, "errors": errors}
    return found


def describe(dag: Any) -> dict[str, Any]:
    """A DAG's limits, as Airflow stores them."""
    from airflow.serialization.serialized_objects import DagSerialization

    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    return {
        "interval": shortest_interval(stored.timetable),
        "dagrun_timeout": seconds_of(dag.dagrun_timeout),
        "max_active_runs": dag.max_active_runs,
        "max_active_tasks": dag.max_active_tasks,
        "tasks": {task.task_id: describe_task(task) for task in dag.tasks},
    }


def describe_task(task: Any) -> dict[str, Any]:
    """A task's limits; ``None`` where it has none."""
    given = task.partial_kwargs if task.is_mapped else vars(task)
    return {
        "mapped": task.is_mapped,
        "execution_timeout": seconds_of(task.execution_timeout),
        "at_once": task.max_active_tis_per_dagrun,
        "retries": task.retries,
        "timeout": seconds_of(given.get("timeout")),
        "poke_interval": seconds_of(given.get("poke_interval")),
    }


def seconds_of(value: Any) -> float | None:
    """A duration in seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def shortest_interval(timetable: Any) -> float | None:
    """Seconds between two runs of a cron schedule, the fewest; None without such a schedule."""
    from airflow.timetables.base import DataInterval, TimeRestriction
    from airflow.timetables.simple import ContinuousTimetable
    from pendulum import datetime as moment

    if isinstance(timetable, ContinuousTimetable) or not timetable.can_be_scheduled:
        return None
    times: list[datetime] = []
    restriction = TimeRestriction(earliest=moment(2026, 1, 1), latest=None, catchup=True)
    last = None
    for _ in range(RUNS):
        info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        if info is None:
            return None
        times.append(info.run_after)
        last = info.data_interval or DataInterval.exact(info.run_after)
    return min((after - before).total_seconds() for before, after in pairwise(times))
