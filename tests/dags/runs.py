"""Whole runs of DAGs through Airflow's own task runner, and what Airflow keeps of them."""

from pathlib import Path
from typing import Any

from airflow.models.dagrun import DagRun

DAGS = Path(__file__).resolve().parents[2] / "dags"


def run_dag(
    dag_id: str, conf: dict[str, Any] | None = None, *, failure_callback: bool = False, **options: Any
) -> DagRun:
    """Run a DAG to its end.

    Args:
        conf: the run's params.
        failure_callback: keep the DAG's failure callback. ``dag.test()`` calls it where no XCom can be read, so that it
            cannot know what the summary did; the end-to-end tests have both together.
        options: of ``dag.test()``, such as ``logical_date``.
    """
    from airflow.dag_processing.dagbag import DagBag

    # Parsed anew, as for every task: a run leaves its params in the DAG object.
    dag = DagBag(dag_folder=str(DAGS / f"{dag_id}.py")).dags[dag_id]
    if not failure_callback:
        dag.on_failure_callback = None
    return dag.test(run_conf=conf, **options)


def states(dag_run: DagRun) -> dict[tuple[str, int], str]:
    """The states of the run's task instances by task id and map index."""
    return {(ti.task_id, ti.map_index): str(ti.state) for ti in dag_run.get_task_instances()}


def note_of(dag_run: DagRun, *, by_person: str | None = None) -> str | None:
    """The note that the run gets as it ends: ``dag.test()`` ends it outside of a session, a scheduler in one.

    Args:
        by_person: a person has replaced the note by this one before.
    """
    from airflow import settings

    with settings.Session() as session:
        ended = session.get_one(DagRun, dag_run.id)
        if by_person is not None:
            ended.dag_run_note.content, ended.dag_run_note.user_id = by_person, "ann"
        ended.notify_dagrun_state_changed(msg="")
        session.commit()
        return session.get_one(DagRun, dag_run.id).note


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
