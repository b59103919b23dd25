"""Airflow's metadata database as a SQLite file of the test session's own."""

from __future__ import annotations

import functools


@functools.cache
def create_airflow_database() -> None:
    """Create the tables, once a session."""
    from airflow import settings
    from airflow.utils.db import initdb

    settings.configure_orm()
    initdb()
