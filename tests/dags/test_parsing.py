"""Airflow parses a DAG file again for every task: it must read nothing and load nothing heavy."""

from __future__ import annotations

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
    "airflow_ext.archive_tasks",
    "airflow_ext.auction_tasks",
    "airflow_ext.auction_wait",
    "airflow_ext.hooks",
    "aiohttp",
    "authlib",
    "boto3",
    "botocore",
    "include.archive",
    "include.auction",
    "include.clients",
    "numpy",
    "pandas",
    "psycopg2",
    "pymssql",
    "requests",
    "slack_sdk",
}


@pytest.fixture(scope="module")
def parsed(root: Path) -> dict[str, Any]:
    """What parsing the DAG files does in a fresh process."""
    environment = {**os.environ, "PYTHONPATH": f"{root / 'plugins'}:{root}"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.dags.parse", str(root / "dags")],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_dag_was_parsed(parsed: dict[str, Any], root: Path) -> None:
    assert parsed["dag_ids"] == sorted(path.stem for path in (root / "dags").glob("*.py"))
    assert "airflow_ext.ids" in parsed["modules"], "or the list of modules says nothing"


def test_nothing_is_read_while_parsing(parsed: dict[str, Any]) -> None:
    assert parsed["touched"] == []


def test_nothing_heavy_is_imported_while_parsing(parsed: dict[str, Any]) -> None:
    heavy = [
        module for module in parsed["modules"] if any(module == name or module.startswith(f"{name}.") for name in HEAVY)
    ]
    assert heavy == []
