"""Registers what Airflow must know by name: the timetable of the daily pipelines."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from airflow_ext.timetables import BusinessDayTimetable


class PipelinesPlugin(AirflowPlugin):
    """Airflow refuses to schedule by a timetable class that no plugin registers."""

    name = "pipelines"
    timetables: ClassVar[list[Any]] = [BusinessDayTimetable]

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Import and load what the tasks use, once a worker instead of once a task (0.5 s of CPU each).

        A task is a fork of its worker and inherits what that has in memory. It takes effect where the option
        ``core.lazy_load_plugins`` is False, so that a worker loads its plugins as it starts.
        """
        importlib.import_module("airflow_ext.tasks.dex_trigger_archive")
        importlib.import_module("airflow_ext.tasks.energy_auction")
        importlib.import_module("airflow_ext.tasks.call_details_ingest")
        importlib.import_module("airflow_ext.operators.dropped_files")
        importlib.import_module("airflow_ext.tasks.event_delivery")
        importlib.import_module("airflow.providers.amazon.aws.hooks.base_aws")
        importlib.import_module("airflow_ext.hooks.aws").preload()
        importlib.import_module("include.clients.connections").tls_context()
