"""Writes docs/DAGS.md from the DAGs themselves: ids, schedules, params, tasks, and their docstrings.

``python docs/generate.py`` writes the file; with ``--check`` it exits 1 and shows the difference when the file is
not current.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "DAGS.md"

HEAD = """\
# DAGs

<!-- Written by `make docs` from the files under dags/: change those, not this. -->
"""


def load_dags() -> Mapping[str, DAG]:
    """Every DAG of the repository, as Airflow loads it with the default configuration.

    Raises:
        RuntimeError: a DAG file cannot be imported.
    """
    for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "AIRFLOW__PIPELINES__RUNBOOK_URL": "RUNBOOK.md",
        }
        sys.path[:0] = [str(ROOT / "plugins"), str(ROOT)]
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(dag_folder=str(ROOT / "dags"))
    if bag.import_errors:
        raise RuntimeError(f"DAG files that cannot be imported: {bag.import_errors}")
    return bag.dags


def render(dags: Mapping[str, DAG]) -> str:
    """The Markdown text for ``dags``, ordered by id."""
    return "\n".join([HEAD, *(_section(dags[dag_id]) for dag_id in sorted(dags))])


def difference(kept: str, current: str) -> str:
    """A unified diff from the text that is kept to the one that would be written; empty when they are equal."""
    lines = difflib.unified_diff(
        kept.splitlines(keepends=True), current.splitlines(keepends=True), "docs/DAGS.md", "the DAGs"
    )
    return "".join(lines)


def _section(dag: DAG) -> str:
    tags = ", ".join(f"`{tag}`" for tag in sorted(dag.tags))
    manual = "\n".join(line for line in (dag.doc_md or "").splitlines() if not line.startswith("# "))
    params = [
        f"| `{name}` | {_type_of(dag.params.get_param(name).schema)} | {_default_of(dag, name)} | "
        f"{dag.params.get_param(name).description} |"
        for name in dag.params
    ]
    if params:
        params = ["| Param | Type | Default | Meaning |", "| --- | --- | --- | --- |", *params, ""]
    tasks = [
        f"| `{task.task_id}` | {task.doc_md} | {'one for each slice of work' if task.is_mapped else 'one'} | "
        f"{task.retries} | {', '.join(f'`{name}`' for name in sorted(task.downstream_task_ids)) or 'none'} |"
        for task in dag.topological_sort()
    ]
    return "\n".join(
        [
            f"## {dag.dag_id}",
            "",
            f"*{dag.dag_display_name}.* {_schedule_of(dag)}. Tags: {tags}.",
            "",
            manual.strip(),
            "",
            *params,
            "| Task | What it does | Instances | Retries | Then |",
            "| --- | --- | --- | --- | --- |",
            *tasks,
            "",
        ]
    )


def _type_of(schema: Mapping[str, Any]) -> str:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    words = [schema.get("format", kind) for kind in kinds if kind != "null"]
    return " or ".join(words) + (", optional" if "null" in kinds else "")


def _default_of(dag: DAG, name: str) -> str:
    from airflow.sdk.exceptions import ParamValidationError

    try:
        return f"`{json.dumps(dag.params[name])}`"
    except ParamValidationError:
        return "none, required"


def _schedule_of(dag: DAG) -> str:
    from airflow.serialization.encoders import coerce_to_core_timetable, encode_timetable
    from airflow.serialization.enums import Encoding

    # In the form that the scheduler reads, timetables of ours and of Airflow's own are alike.
    fields = encode_timetable(dag.timetable)[Encoding.VAR]
    if "expression" not in fields:
        return str(coerce_to_core_timetable(dag.timetable).description).rstrip(".")
    return f"Cron `{fields['expression']}` in {fields['timezone']}"


def main() -> int:
    """Write the file or check it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file is not current")
    options = parser.parse_args()
    text = render(load_dags())
    if not options.check:
        OUTPUT.write_text(text, encoding="utf-8")
        return 0
    stale = difference(OUTPUT.read_text(encoding="utf-8") if OUTPUT.exists() else "", text)
    if stale:
        print(stale, "docs/DAGS.md is not current: run `make docs`", sep="\n", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
