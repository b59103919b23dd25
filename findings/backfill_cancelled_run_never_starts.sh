#!/usr/bin/env bash
# Airflow 3.3.1: a run of a cancelled backfill that is cleared stays queued for good, and no backfill can take it over.
#
# Cancelling pauses a backfill, so that nothing more of it starts, and marks it as completed, but never takes the pause
# away. Its runs belong to it still, the finished ones too. Whoever clears one of them, a week later, gets a queued run
# that the scheduler does not look at, whatever is free: it has no reason in the UI and no line in the log. To unpause
# the backfill is refused, as it is completed; a new backfill of that day passes the run over as "in flight". A
# backfill that ended by itself does not have this. What helps is to set the run to failed and backfill its day again.
#
# Seen: two days, one done and one queued, cancelled; another day, completed; all cleared: all queued, the scheduler
# starts only the run of the completed backfill; unpause 409, new backfill "in flight".
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
import pendulum
from airflow.sdk import dag, task


@dag(schedule="@daily", start_date=pendulum.datetime(2026, 1, 1), catchup=False)
def daily():
    @task
    def archive():
        pass

    archive()


daily()
PY
cat >"$work/step.py" <<'PY'
import sys

from airflow.api_fastapi.core_api.routes.public.backfills import cancel_backfill, unpause_backfill
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.backfill import BackfillDagRun
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from fastapi import HTTPException
from sqlalchemy import select


def finish(session, day):
    """Let the run of this day succeed, and the scheduler look for backfills that are complete."""
    run = session.scalar(select(DagRun).where(DagRun.run_id.contains(day)))
    run.state = run.get_task_instance("archive", session=session).state = "success"
    session.commit()
    SchedulerJobRunner(Job())._mark_backfills_complete()


def look(session):
    states = {run.run_id[10:20]: str(run.state) for run in session.scalars(select(DagRun).order_by(DagRun.run_id))}
    started = [run.run_id[10:20] for run in DagRun.get_queued_dag_runs_to_set_running(session=session)]
    again = session.scalars(select(BackfillDagRun.exception_reason).where(BackfillDagRun.backfill_id == 3)).all()
    try:
        unpause = unpause_backfill(1, session)
    except HTTPException as error:
        unpause = error.status_code
    print("states:", states, "started:", started, "unpause:", unpause, "new backfill:", again, sep="\n")
    assert set(states.values()) == {"queued"}
    assert started == ["2026-03-05"]
    assert unpause == 409
    assert again == ["in flight", "in flight"]


with create_session() as session:
    match sys.argv[1:]:
        case ["finish", day]:
            finish(session, day)
        case ["cancel"]:
            cancel_backfill(1, session)
        case ["look"]:
            look(session)
PY
airflow() { "$work/venv/bin/airflow" "$@" >>"$work/log" 2>&1; }
step() { "$work/venv/bin/python" -W ignore "$work/step.py" "$@" 2>>"$work/log"; }
backfill() { airflow backfill create --dag-id daily --reprocess-behavior completed --from-date "$1" --to-date "$2"; }
airflow db migrate
airflow dags reserialize
airflow dags unpause daily -y
backfill 2026-03-01 2026-03-02
step finish 2026-03-01
step cancel
backfill 2026-03-05 2026-03-05
step finish 2026-03-05
airflow tasks clear daily -y
backfill 2026-03-01 2026-03-02
step look
