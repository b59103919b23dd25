#!/usr/bin/env bash
# Airflow 3.3.1: an event of EventsTimetable that comes while the DAG's runs are at their limit has no run, ever.
#
# EventsTimetable runs a DAG at listed times. With catchup off, the default of Airflow 3, the other timetables still
# make the latest run that is overdue. This one asks only for events that are later than now, and is asked again at each
# parse of the file, twice a minute. So if the scheduler has not made the run when the next parse comes, because
# max_active_runs is reached, or it was being restarted, the event has become the past, and its run is never made. The
# DAG then waits for the next event; no state and no line in a log says that one was left out.
#
# Seen, for two DAGs with max_active_runs 1, a run that is going on at the time, and a parse after it: when that run has
# ended, the DAG by cron has its run; the DAG by events has none, and the next one is that of the next day. This is the
# class of airflow.timetables; a DAG with that of airflow.sdk fails to serialize: '_summary'.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
import os

import pendulum
from airflow.sdk import CronTriggerTimetable, dag, task
from airflow.timetables.events import EventsTimetable

at = pendulum.parse(os.environ["AT"])


def define(name, timetable):
    @dag(dag_id=name, schedule=timetable, start_date=at.subtract(hours=1), max_active_runs=1)
    def finding():
        @task
        def work():
            pass

        work()

    finding()


define("events", EventsTimetable([at.subtract(days=1), at, at.add(days=1)]))
define("cron", CronTriggerTimetable(f"{at.minute} {at.hour} * * *", timezone="UTC"))
PY
cat >"$work/run.py" <<'PY'
import os
import time

import pendulum
from airflow.api.common.trigger_dag import trigger_dag
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.exceptions import SerializationError
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.sdk import DAG, EventsTimetable
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.session import create_session
from airflow.utils.sqlalchemy import prohibit_commit
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select, update

folder = os.path.join(os.environ["AIRFLOW_HOME"], "dags")


def parse():
    """Parse the file as the DAG processor does, and say which runs are next."""
    with create_session() as session:
        sync_bag_to_db(DagBag(folder), "dags-folder", None, session=session)
    with create_session() as session:
        return {dag.dag_id: dag.next_dagrun_create_after for dag in session.scalars(select(DagModel))}


def schedule():
    """Let the scheduler make the runs that are due."""
    with create_session() as session, prohibit_commit(session) as guard:
        SchedulerJobRunner(Job())._create_dagruns_for_dags(guard, session)


DagBundlesManager().sync_bundles_to_db()
at = pendulum.now("UTC").add(seconds=90).start_of("minute")
os.environ["AT"] = str(at)
parse()
with create_session() as session:
    session.execute(update(DagModel).values(is_paused=False))
    for run in ("events", "cron"):
        trigger_dag(run, triggered_by=DagRunTriggeredByType.TEST, run_id="long", session=session)
before = parse()
assert pendulum.now("UTC") < at
while pendulum.now("UTC") < at.add(seconds=1):
    time.sleep(0.2)
schedule()
parse()
with create_session() as session:
    session.execute(update(DagRun).values(state="success"))
after = parse()
schedule()
with create_session() as session:
    made = session.execute(select(DagRun.dag_id, DagRun.run_after).where(DagRun.run_id != "long")).all()
try:
    DagSerialization.to_dict(DAG("sdk", schedule=EventsTimetable([at])))
except SerializationError as error:
    print(error)
else:
    raise AssertionError("the class of the SDK was serialized")
print("event:", at)
print("next, before it:", {name: str(date) for name, date in before.items()})
print("next, after it: ", {name: str(date) for name, date in after.items()})
print("made:", [(name, str(date)) for name, date in made])
assert before == {"events": at, "cron": at}
assert after == {"events": at.add(days=1), "cron": at}
assert made == [("cron", at)]
PY
airflow() { "$work/venv/bin/airflow" "$@" >>"$work/log" 2>&1; }
airflow db migrate
"$work/venv/bin/python" -W ignore "$work/run.py"
