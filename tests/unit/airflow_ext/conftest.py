"""Airflow without a scheduler: secrets come from the environment, then from an empty database."""

import pytest

from tests.worlds.airflow import forget_masks


@pytest.fixture(autouse=True)
def no_masks() -> None:
    """No secrets of other tests."""
    forget_masks()


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Airflow's tables in this session's own SQLite file."""
    from tests.worlds.airflow import create_airflow_database

    create_airflow_database()
