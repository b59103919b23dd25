"""Registers what Airflow must know by name: the timetable of the daily pipelines."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_ext.timetables import BusinessDayTimetable


class PipelinesPlugin(AirflowPlugin):
    """Airflow refuses to schedule by a timetable class that no plugin registers."""

    name = "pipelines"
    timetables = (BusinessDayTimetable,)
