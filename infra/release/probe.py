"""Probe a project: ``python -P -m infra.release.probe OUTPUT``, in an interpreter that knows the project only.

``AIRFLOW__CORE__DAGS_FOLDER`` and ``AIRFLOW__CORE__PLUGINS_FOLDER`` are set, the plugins folder is on ``PYTHONPATH``
and ``include/`` within it, as on MWAA. Writes one JSON object to the file ``OUTPUT``. Nothing of this repository is
imported but this file and what is probed.

Of the DAG files and the plugins it tells what parsing them takes, what fails, and the limits of every DAG and task; of
the code, what cannot be imported, and the numbers in it that the checks compare.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import multiprocessing
import os
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeGuard

RUNS = 400
"""So many runs of a schedule are looked at for its shortest interval: more than a year of a daily one."""


def parse_seconds(folder: Path) -> dict[str, float]:
    """CPU seconds that parsing each file takes in a process of its own, as the DAG processor and every task do it."""
    # What both have imported before they parse.
    importlib.import_module("airflow.sdk.execution_time.task_runner")
    importlib.import_module("airflow.dag_processing.dagbag")
    # Of a file that ends its process nothing comes; loading it again says why.
    taken = {file.stem: _forked(_parse_once, file) for file in sorted(folder.glob("*.py"))}
    return {stem: seconds for stem, seconds in taken.items() if seconds is not None}


def _forked[**P, T](work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What some work returns in a process of its own; None if it ends that."""

    def answer() -> None:
        theirs.send(work(*args, **kwargs))

    forked = multiprocessing.get_context("fork")
    ours, theirs = forked.Pipe(duplex=False)
    process = forked.Process(target=answer)
    process.start()
    theirs.close()
    found: T | None = None
    with contextlib.suppress(EOFError):
        found = ours.recv()
    process.join()
    return found


def _parse_once(file: Path) -> float:
    from airflow.dag_processing.dagbag import BundleDagBag

    began = time.process_time()
    BundleDagBag(dag_folder=file, safe_mode=False, load_op_links=False, bundle_path=file.parent)
    return time.process_time() - began


def api_server_modules() -> list[str]:
    """What an API server has in memory once its plugins are loaded: top-level modules, and all of the project."""
    # A plugin that ends the process has findings of its own.
    return _forked(_start_api_server) or []


def _start_api_server() -> list[str]:
    # By this a plugin tells where it is loaded.
    sys.argv = ["airflow", "api-server"]
    from airflow import plugins_manager

    plugins_manager.get_fastapi_plugins()
    return sorted(name for name in sys.modules if "." not in name or name.partition(".")[0] in PACKAGES)


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


PACKAGES = ("include", "airflow_ext")


def import_all() -> dict[str, str]:
    """Import every module; the errors of those that cannot be, by name."""
    errors = {}
    for package in PACKAGES:
        for name in _names(package):
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 - whatever a module raises is told
                errors[name] = f"{type(error).__name__}: {error}"
    return errors


def _names(package: str) -> Iterator[str]:
    yield package
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, f"{package}.", onerror=lambda name: None):
        yield module.name


def constants() -> dict[str, float]:
    """Every number that a module calls a constant, and every default of a dataclass, by dotted name."""
    found: dict[str, float] = {}
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] in PACKAGES:
            found |= {f"{name}.{key}": value for key, value in _numbers(module)}
    return found


def _numbers(module: ModuleType) -> Iterator[tuple[str, float]]:
    for key, value in vars(module).items():
        if key.isupper() and _is_number(value):
            yield key, value
        elif isinstance(value, type) and value.__module__ == module.__name__ and "__dataclass_fields__" in vars(value):
            for field in dataclasses.fields(value):
                if _is_number(field.default):
                    yield f"{key}.{field.name}", field.default


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def settings_fields() -> dict[str, dict[str, float | None]]:
    """The settings that are numbers: default, least and most."""
    from airflow_ext.settings import Settings

    found = {}
    for name, field in Settings.model_fields.items():
        if _is_number(field.default):
            bounds: dict[str, float | None] = {"default": field.default, "most": None, "least": None}
            for rule in field.metadata:
                bounds["most"] = getattr(rule, "le", bounds["most"])
                bounds["least"] = getattr(rule, "ge", bounds["least"])
            found[name] = bounds
    return found


def clients() -> dict[str, dict[str, float]]:
    """Time-outs (s), attempts and connections of the clients that tasks use."""
    aws = importlib.import_module("airflow_ext.hooks.aws")
    # Stands in for one of AWS: a client is what it was to be made with.
    session = SimpleNamespace(client=lambda service, config: config)
    made = {
        "lambda": aws.lambda_client(session=session),
        "s3": aws.s3_client(session=session),
        "quick": aws.quick_client("sqs", session=session),
    }
    return {
        name: {
            "connect": config.connect_timeout,
            "read": config.read_timeout,
            "attempts": config.retries["total_max_attempts"],
            "pool": config.max_pool_connections,
        }
        for name, config in made.items()
    }


def references() -> dict[str, int]:
    """Bytes of one reference in the XCom that a task is mapped over, at its longest, by the task that returns it."""
    from airflow_ext.triggers.lambda_result import Work
    from include.archive.keys import plan_key
    from include.archive.models import Client, cut
    from include.auction.keys import orders_key
    from include.call_details.watcher import MAX_FILES

    bucket, run_id = "b" * 63, "manual__2026-03-08T05:30:00.000000+00:00_" + "r" * 60
    now = datetime(2026, 3, 8, tzinfo=UTC)
    (piece,) = cut([Client(2**31, "c"), Client(2**31 + 1, "d")], max_tasks=1, clients_per_task=2)
    plan = {"plan": f"s3://{bucket}/{plan_key(now.date(), run_id, now)}", **dataclasses.asdict(piece)}
    orders = Work(orders=f"s3://{bucket}/{orders_key(now.date(), run_id)}", start=9_998, stop=9_999, concurrency=64)
    return {
        "dex_trigger_archive.list_clients": len(json.dumps(plan)),
        "energy_auction.wait_for_results": len(json.dumps(orders)),
        "call_details_watch.claim_files": len(json.dumps(MAX_FILES)),
    }


def options() -> dict[str, float]:
    """Configuration options of Airflow that are numbers, by section and name."""
    from airflow.sdk.configuration import conf

    return {f"{section}.{name}": float(conf.getfloat(section, name)) for section, name in OPTIONS}


OPTIONS = (
    ("core", "max_map_length"),
    ("core", "parallelism"),
    ("core", "dagbag_import_timeout"),
    ("core", "max_active_tasks_per_dag"),
    ("core", "default_pool_task_slot_count"),
    ("scheduler", "orphaned_tasks_check_interval"),
    ("scheduler", "scheduler_health_check_threshold"),
    ("scheduler", "task_instance_heartbeat_timeout"),
    ("scheduler", "task_instance_heartbeat_timeout_detection_interval"),
    ("triggerer", "capacity"),
    ("triggerer", "triggerer_health_check_threshold"),
)


def main(output: Path) -> None:
    """Probe the project and write what was found."""
    dags = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    plugins = Path(os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"])
    # First: what is measured must not find in memory what the rest imports.
    api_server = api_server_modules()
    seconds = parse_seconds(dags)
    found = {
        "api_server": api_server,
        "parse_seconds": seconds,
        "plugins": probe_plugins(plugins),
        "dags": probe_dags(dags),
        "modules": import_all(),
        "constants": constants(),
        "settings": settings_fields(),
        "clients": clients(),
        "references": references(),
        "options": options(),
    }
    output.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
