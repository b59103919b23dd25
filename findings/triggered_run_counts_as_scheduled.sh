#!/usr/bin/env bash
# Airflow 3.3.1, standard provider 1.17.0: a run that TriggerDagRunOperator made is manual by its id and not to Airflow.
#
# Since 3.3 such a run has a type of its own, operator_triggered; its id still begins with "manual__". Code that asks
# whether a run is manual now treats it as one of the schedule, and code that lists the types has no place for it:
#   - With catchup, depends_on_past looks at the run of the schedule before this one and ignores those by hand. A run by
#     the operator counts: if it failed, the schedule stops until somebody repairs it.
#   - At max_active_runs the DAG is marked as full, and the end of a run takes the mark away; that of a run by the
#     operator does not. The next run of the schedule, or of an asset, waits until the DAG's file is parsed again, which
#     is half a minute at best and minutes where there are many files.
#
# Seen, for two DAGs alike with max_active_runs 1, of which one failed run has ended: after one by hand the run of the
# schedule is made at once, and its task starts; after one by the operator it is made after the next parse only, and its
# task does not start.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-standard==1.17.0

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import CronTriggerTimetable, dag, task

midnight = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
evening = midnight - timedelta(hours=6)


def define(name):
    timetable = CronTriggerTimetable("0 0 * * *", timezone="UTC")

    @dag(dag_id=name, schedule=timetable, start_date=midnight - timedelta(hours=12), catchup=True, max_active_runs=1)
    def finding():
        @task(depends_on_past=True)
        def work():
            pass

        work()

    finding()


@dag(schedule=None)
def starter():
    TriggerDagRunOperator(task_id="start", trigger_dag_id="by_operator", logical_date=evening.isoformat())


define("by_hand")
define("by_operator")
made = starter()
PY
cat >"$work/run.py" <<'PY'
import os

from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.sqlalchemy import prohibit_commit
from finding import made
from sqlalchemy import select

made.test()
scheduler = SchedulerJobRunner(Job())


def parse():
    with create_session() as session:
        sync_bag_to_db(DagBag(os.path.join(os.environ["AIRFLOW_HOME"], "dags")), "dags-folder", None, session=session)


def schedule():
    """Let the scheduler make the runs that are due, and tell which DAGs have one."""
    with create_session() as session, prohibit_commit(session) as guard:
        scheduler._create_dagruns_for_dags(guard, session)
    with create_session() as session:
        return sorted(session.scalars(select(DagRun.dag_id).where(DagRun.run_type == "scheduled")))


parse()
first = {}
with create_session() as session:
    for run in session.scalars(select(DagRun).where(DagRun.dag_id != "starter")):
        first[run.dag_id] = run.run_id.partition("__")[0], run.run_type
        run.state = "running"
        run.get_task_instance("work", session=session).state = "failed"
before = schedule()
with create_session() as session:
    for run in session.scalars(select(DagRun).where(DagRun.dag_id != "starter")):
        scheduler._schedule_dag_run(run, session=session)
        assert run.state == "failed"
ended = schedule()
parse()
parsed = schedule()
starts = {}
with create_session() as session:
    for run in session.scalars(select(DagRun).where(DagRun.run_type == "scheduled")):
        run.dag = scheduler.scheduler_dag_bag.get_dag_for_run(run, session=session)
        run.state = "running"
        ready = run.task_instance_scheduling_decisions(session=session).schedulable_tis
        starts[run.dag_id] = [instance.task_id for instance in ready]
print("id and type of the first run:", first)
print("runs of the schedule before its end:", before, "after it:", ended, "after the next parse:", parsed)
print("starts:", starts)
assert first == {"by_hand": ("manual", "manual"), "by_operator": ("manual", "operator_triggered")}
assert (before, ended, parsed) == ([], ["by_hand"], ["by_hand", "by_operator"])
assert starts == {"by_hand": ["work"], "by_operator": []}
PY
airflow() { "$work/venv/bin/airflow" "$@" >>"$work/log" 2>&1; }
airflow db migrate
airflow dags reserialize
airflow dags unpause by_hand -y
airflow dags unpause by_operator -y
airflow dags trigger by_hand --logical-date "$(date -u -d 'yesterday 18:00' +%FT%T+00:00)"
PYTHONPATH=$work/dags "$work/venv/bin/python" -W ignore "$work/run.py" 2>"$work/log"
