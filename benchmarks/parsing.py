"""Time to parse the DAG's file, which Airflow does for every task, beside an empty DAG's."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

from benchmarks.bench import ARCHIVE_DAG, EMPTY_DAG_FILE, Bench, Run
from benchmarks.results import Comparison, Part, median_and_range, run_python
from local.processes.layout import PROJECT_ROOT

ARCHIVE_DAG_FILE = PROJECT_ROOT / "dags" / f"{ARCHIVE_DAG}.py"

_LOGGED = re.compile(r'"dag_file_parse_ms":\s*(\d+)')


def measure_parsing(bench: Bench, *, repeat: int) -> Part:
    """``dag_file_parse_ms`` of the task logs, and the same parse in fresh processes, in turns."""
    bench.set_latency(0)
    bench.set_clients(1)
    logged: dict[str, list[float]] = {"archive": [], "empty": []}
    fresh: dict[str, list[float]] = {"archive": [], "empty": []}
    # They are short.
    repeat += 2
    for _ in range(repeat):
        logged["archive"] += _logged(bench, bench.archive(1, bench.fresh_day()))
        logged["empty"] += _logged(bench, bench.nothing(1))
        fresh["archive"].append(_fresh(bench, ARCHIVE_DAG_FILE))
        fresh["empty"].append(_fresh(bench, EMPTY_DAG_FILE))
    rows = [
        _compare(f"in tasks, from their logs ({len(logged['archive'])} tasks)", logged, digits=0),
        _compare(f"in a fresh process, nothing imported before ({repeat} processes)", fresh, digits=1),
    ]
    return Part(
        "dag_file_parse_ms",
        f"Parsing dags/{ARCHIVE_DAG}.py beside an empty DAG of the same shape (benchmarks/dags/{EMPTY_DAG_FILE.name}). "
        "Tasks: the value that Airflow logs, in runs with one mapped task, so that no two tasks run at once. They are "
        "forks of workers that have imported the plugins (plugins/pipelines_plugin.py) before. A fresh process has "
        "imported Airflow's own task runner and nothing else: it shows what the file's imports cost.",
        rows,
        {"logged_ms": logged, "fresh_ms": fresh},
    )


def _compare(what: str, values: dict[str, list[float]], *, digits: int) -> Comparison:
    ours, empty = statistics.median(values["archive"]), statistics.median(values["empty"])
    return Comparison(
        what,
        median_and_range(values["archive"], "ms", digits=digits),
        median_and_range(values["empty"], "ms", digits=digits),
        f"{ours - empty:+.{digits}f} ms, {ours / max(empty, 0.5):.1f} times",
    )


def _logged(bench: Bench, run: Run) -> list[float]:
    logs = bench.task_logs / f"dag_id={run.dag_id}" / f"run_id={run.run_id}"
    texts = (path.read_text() for path in logs.rglob("attempt=1.log"))
    return sorted(float(found[1]) for text in texts if (found := _LOGGED.search(text)))


def _fresh(bench: Bench, file: Path) -> float:
    environment = bench.stack.airflow_environment() | {"AIRFLOW__CORE__LAZY_LOAD_PLUGINS": "True"}
    return float(
        json.loads(run_python("-m", "benchmarks.parse_once", file, environment=environment))["dag_file_parse_ms"]
    )
