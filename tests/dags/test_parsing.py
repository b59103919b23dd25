"""Airflow parses a DAG file again for every task: it must read nothing and load nothing heavy."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEAVY = {
    "airflow.providers.amazon",
    "airflow.providers.common.sql",
    "airflow.providers.http",
    "airflow.providers.microsoft",
    "airflow.providers.slack",
    "airflow_ext.tasks.dex_trigger_archive",
    "airflow_ext.tasks.energy_auction",
    "airflow_ext.triggers.lambda_result",
    "airflow_ext.hooks",
    "airflow_ext.hooks.call_details",
    "airflow_ext.tasks.call_details_ingest",
    "aiohttp",
    "boto3",
    "botocore",
    "include.archive",
    "include.auction",
    "include.clients",
    "include.call_details",
    "numpy",
    "pandas",
    "psycopg2",
    "pymssql",
    "requests",
    "slack_sdk",
}


BY_ITS_SENSOR = "call_details_watch"
"""The one DAG that has to load a provider: Airflow's S3KeySensor must be imported where it is used."""


@pytest.fixture(scope="module")
def parsed(root: Path) -> dict[str, Any]:
    """What parsing the DAG files does in a fresh process."""
    environment = {**os.environ, "PYTHONPATH": f"{root / 'plugins'}:{root}"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.dags.parse", str(root / "dags"), BY_ITS_SENSOR],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def heavy(modules: list[str]) -> set[str]:
    return {name for name in HEAVY for module in modules if module == name or module.startswith(f"{name}.")}


def test_every_dag_was_parsed(parsed: dict[str, Any], root: Path) -> None:
    assert sorted(parsed["dag_ids"]) == sorted(path.stem for path in (root / "dags").glob("*.py"))
    assert parsed["dag_ids"][-1] == BY_ITS_SENSOR
    assert "airflow_ext.ids" in parsed["modules"], "or the list of modules says nothing"


def test_nothing_is_read_while_parsing(parsed: dict[str, Any]) -> None:
    assert parsed["touched"] == []


def test_nothing_heavy_is_imported_while_parsing(parsed: dict[str, Any]) -> None:
    assert heavy(parsed["before_last"]) == set()


def test_watcher_loads_no_more_than_its_sensor_does(parsed: dict[str, Any]) -> None:
    assert heavy(parsed["modules"]) == {"airflow.providers.amazon", "boto3", "botocore", "requests"}
