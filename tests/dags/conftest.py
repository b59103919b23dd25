"""The DAGs as Airflow loads them, and a world for their tasks."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

from tests.worlds.airflow import FakeRun, create_airflow_database, forget_masks
from tests.worlds.archive import ArchiveWorld


@pytest.fixture(autouse=True)
def no_masks() -> None:
    """No secrets of other tests."""
    forget_masks()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ArchiveWorld]:
    """Three clients, a DEX API that answers, an empty bucket."""
    with ArchiveWorld(tmp_path / "clients.sqlite").attached() as world:
        yield world


@pytest.fixture
def run() -> FakeRun:
    """A run of 2026-03-08."""
    # 05:30 UTC is half past midnight in New York.
    return FakeRun(logical_date=datetime(2026, 3, 8, 5, 30, tzinfo=UTC))


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Airflow's tables in this session's own SQLite file."""
    create_airflow_database()


@pytest.fixture(scope="session")
def dagbag(root: Path) -> DagBag:
    """Every DAG file, parsed as the DAG processor does."""
    return DagBag(dag_folder=str(root / "dags"))
