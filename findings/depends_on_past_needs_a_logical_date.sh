#!/usr/bin/env bash
# Airflow 3.3.1: a run without a logical date does not depend on the past, so that an asset-driven DAG never does.
#
# depends_on_past holds a task back until its instance in the run before was a success: loads in order, none on top of a
# failed one. "The run before" is looked up by logical date. Since Airflow 3 runs that assets start, and those of
# `airflow dags trigger`, have none; for them the answer is "no run before", and the task starts whatever the last one
# did. wait_for_downstream is void with it. Moving a DAG from cron to an asset, an edit of one line, so takes its order
# away, and nothing is logged.
#
# Seen, each after a run whose task failed: a run with a logical date waits; one started by an asset and one by
# `airflow dags trigger` start.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
from airflow.sdk import Asset, dag, task


@dag(schedule=Asset("orders"), default_args={"depends_on_past": True})
def load():
    @task
    def insert():
        pass

    insert()


load()
PY
airflow() { "$work/venv/bin/airflow" "$@" >>"$work/log" 2>&1; }
airflow db migrate
airflow dags reserialize
airflow dags unpause load -y
airflow dags trigger load --run-id dated-1 --logical-date 2026-03-01
airflow dags trigger load --run-id dated-2 --logical-date 2026-03-02
airflow dags trigger load --run-id manual-1
airflow dags trigger load --run-id manual-2
"$work/venv/bin/python" -W ignore - <<'PY'
from airflow.assets.manager import AssetManager
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.asset import AssetModel
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.sqlalchemy import prohibit_commit
from sqlalchemy import select


def started_by_asset(made):
    """Let the asset change, and the scheduler make the run for it."""
    with create_session() as session:
        asset = session.scalar(select(AssetModel))
        AssetManager().register_asset_change(asset=asset.to_serialized(), session=session)
    with create_session() as session, prohibit_commit(session) as guard:
        SchedulerJobRunner(Job())._create_dagruns_for_dags(guard, session)
    with create_session() as session:
        runs = session.scalars(select(DagRun.run_id).where(DagRun.run_type == "asset_triggered")).all()
    return next(run for run in runs if run not in made)


def fail(run_id):
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_id == run_id))
        run.state = run.get_task_instance("insert", session=session).state = "failed"


def starts(run_id):
    """Whether the scheduler would start the run's task now."""
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_id == run_id))
        run.dag = DBDagBag().get_dag_for_run(run, session=session)
        run.state = "running"
        ready = run.task_instance_scheduling_decisions(session=session).schedulable_tis
        return run.logical_date and f"{run.logical_date:%Y-%m-%d}", [task.task_id for task in ready]


fail("dated-1")
dated = starts("dated-2")
fail("manual-1")
manual = starts("manual-2")
first = started_by_asset([])
fail(first)
asset = starts(started_by_asset([first]))
print("logical date:", dated, "by hand:", manual, "by asset:", asset, sep="\n")
assert dated == ("2026-03-02", [])
assert manual == asset == (None, ["insert"])
PY
