#!/usr/bin/env bash
# Airflow 3.3.1: a failed run with a deadline cannot be cleared, and after the clear of a success there is none.
#
# DeadlineReference.DAGRUN_QUEUED_AT is the documentation's own example: tell me when a run is not done some time
# after it was queued. Clearing sets a new queued_at, so Airflow wants to move the deadline; it reads the interval as
# seconds, but since 3.3 the interval is stored as JSON. The clear ends in a TypeError (a 500 in the UI) and clears
# nothing, for every run whose deadline is still open, which is each run that failed in time: those that people clear.
# A success deletes the deadline. Such a run can be cleared, but gets no new deadline: the second time it may hang
# without an alert.
#
# Seen: deadline open, run failed: TypeError, the task is still failed; run succeeded: cleared and queued, 0
# deadlines.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
from datetime import timedelta

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference, dag, task

within_an_hour = DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, timedelta(hours=1), AsyncCallback("alerts.late"))


@dag(schedule=None, deadline=within_an_hour)
def late():
    @task
    def work():
        pass

    work()


late()
PY
airflow() { "$work/venv/bin/airflow" "$@" >>"$work/log" 2>&1; }
airflow db migrate
airflow dags reserialize
airflow dags trigger late --run-id failed
airflow dags trigger late --run-id success
"$work/venv/bin/python" -W ignore - <<'PY'
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.deadline import Deadline
from airflow.models.taskinstance import clear_task_instances
from airflow.utils.session import create_session
from sqlalchemy import func, select


def state(run_id):
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_id == run_id))
        deadlines = session.scalar(select(func.count()).where(Deadline.dagrun_id == run.id))
        return str(run.state), str(run.get_task_instance("work", session=session).state), deadlines


def end(run_id):
    """Let the run's task, and with it the run, end in the state that is its id."""
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_id == run_id))
        run.dag = DBDagBag().get_dag_for_run(run, session=session)
        run.state = "running"
        run.get_task_instance("work", session=session).state = run_id
        session.flush()
        run.update_state(session=session)
    return state(run_id)


def clear(run_id):
    try:
        with create_session() as session:
            run = session.scalar(select(DagRun).where(DagRun.run_id == run_id))
            clear_task_instances(run.get_task_instances(session=session), session)
    except TypeError as error:
        print("clear:", error)
        return TypeError
    return None


assert state("failed")[2] == state("success")[2] == 1
for run_id in ("failed", "success"):
    print("ended:", end(run_id))
refused, done = clear("failed"), clear("success")
print("run, task, deadlines after the clear:", state("failed"), state("success"))
assert refused is TypeError
assert state("failed") == ("failed", "failed", 1)
assert done is None
assert state("success") == ("queued", "None", 0)
PY
