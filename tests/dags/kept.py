"""What Airflow keeps of a run, to look for what should not be in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun


def kept_by_airflow(dag_run: DagRun) -> dict[str, str]:
    """XComs, rendered fields and task instances of the run, as the metadata database has them."""
    from airflow import settings
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import inspect, select

    kept = {}
    with settings.Session() as session:
        for model in (XComModel, RenderedTaskInstanceFields, TaskInstance):
            columns = inspect(model).columns.keys()
            rows = session.scalars(select(model).where(model.run_id == dag_run.run_id)).all()
            assert rows, model
            for number, row in enumerate(rows):
                kept[f"{model.__name__} {number}"] = str({name: getattr(row, name, None) for name in columns})
    return kept
