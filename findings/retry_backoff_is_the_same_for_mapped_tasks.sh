#!/usr/bin/env bash
# Airflow 3.3.1: with exponential backoff all instances of a mapped task retry in the same second, and a cleared task
# waits as if it had never been cleared.
#
# retry_exponential_backoff adds to each wait a part that spreads the retries. It is not random but a hash of DAG, task,
# logical date and try. The map index is not in it: a hundred mapped tasks that a partner refused at once ask again at
# once, each time. Neither is the run, so that all runs without a logical date, those of assets and of `airflow dags
# trigger`, wait alike as well. And the exponent is the number of tries of the task's whole life: a task that used up
# its five tries and is cleared, when the partner is back, has all its retries again, but the first of them waits 32
# times as long. A RetryPolicy may choose the delay with random().
#
# Seen, with a delay of 60 s, after the first try: 10 mapped instances one wait, 10 days different ones, 10 runs without
# a logical date one wait, each between 60 and 120 s. Cleared after five tries, after the next one: 1,920 s and more.
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

from airflow.sdk import dag, task

LATER = {"retries": 4, "retry_delay": timedelta(seconds=60), "retry_exponential_backoff": 2}


@dag(schedule=None, default_args=LATER)
def finding():
    @task
    def fetch(client):
        pass

    @task
    def load():
        pass

    fetch.expand(client=list(range(10))) >> load()


finding()
PY
airflow() { "$work/venv/bin/airflow" "$@" >>"$work/log" 2>&1; }
airflow db migrate
airflow dags reserialize
"$work/venv/bin/python" -W ignore - <<'PY'
import pendulum
from airflow.api.common.trigger_dag import trigger_dag
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import clear_task_instances
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select

DAYS = [pendulum.datetime(2026, 3, day) for day in range(1, 11)]


def waits(run_id, task_id, tries):
    """Seconds until each instance of the task starts again, after so many failed tries."""
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_id == run_id))
        dag = DBDagBag().get_dag_for_run(run, session=session)
        found = []
        for instance in run.get_task_instances(session=session):
            if instance.task_id == task_id:
                instance.task, instance.try_number, instance.end_date = dag.get_task(task_id), tries, DAYS[0]
                instance.state = "up_for_retry"
                found.append((instance.next_retry_datetime() - DAYS[0]).total_seconds())
        return found


with create_session() as session:
    for number, day in enumerate(DAYS):
        how = {"triggered_by": DagRunTriggeredByType.TEST, "session": session}
        trigger_dag("finding", run_id=f"dated-{number}", logical_date=day, **how)
        trigger_dag("finding", run_id=f"undated-{number}", **how)
mapped = waits("dated-0", "fetch", tries=1)
dated = [wait for number in range(10) for wait in waits(f"dated-{number}", "load", tries=1)]
undated = [wait for number in range(10) for wait in waits(f"undated-{number}", "load", tries=1)]
waits("dated-0", "load", tries=5)
with create_session() as session:
    run = session.scalar(select(DagRun).where(DagRun.run_id == "dated-0"))
    instance = run.get_task_instance("load", session=session)
    instance.state = "failed"
    clear_task_instances([instance], session)
    session.flush()
    tries, most = instance.try_number, instance.max_tries
(cleared,) = waits("dated-0", "load", tries=tries + 1)
print("mapped:", mapped, "dated:", dated, "undated:", undated, "cleared:", (tries, most, cleared), sep="\n")
assert len(mapped) == len(dated) == len(undated) == 10
assert len(set(mapped)) == len(set(undated)) == 1
assert len(set(dated)) > 5
assert all(60 <= wait <= 120 for wait in (*mapped, *dated, *undated))
assert (tries, most) == (5, 9)
assert 1920 <= cleared <= 3840
PY
