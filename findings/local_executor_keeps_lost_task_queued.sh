#!/usr/bin/env bash
# Airflow 3.3.1: with LocalExecutor, task_queued_timeout does nothing: a task that was lost in the queue stays there.
#
# [scheduler] task_queued_timeout is said to have a task that is queued for too long tried again, or failed. The
# scheduler asks the executor to give the task back (revoke_task), and goes on without a word where the executor has no
# such method; CeleryExecutor has one, LocalExecutor has none. A worker process of LocalExecutor that dies (for want of
# memory, say) between taking a task and starting it leaves the task queued, its run running, and nothing in the logs.
# It counts as an orphan only when its scheduler is gone: a restart of the scheduler frees it.
#
# Seen, for a time-out of 5 s that is checked each second, 20 s after a task was found queued for an hour: "queued" with
# LocalExecutor; rescheduled ("stuck in queued reschedule" in the audit log) with a subclass that has the method.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
export AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT=5 AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL=1
export AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION=True PYTHONPATH=$work
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
from airflow.sdk import dag, task


@dag(schedule=None)
def finding():
    @task
    def work():
        pass

    work()


finding()
PY
cat >"$work/revoking.py" <<'PY'
from airflow.executors.local_executor import LocalExecutor


class RevokingExecutor(LocalExecutor):
    def revoke_task(self, *, ti):
        pass
PY
cat >"$work/run.py" <<'PY'
import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.jobs.job import Job
from airflow.models.log import Log
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import func, select

home = Path(os.environ["AIRFLOW_HOME"])


def job():
    """The scheduler that runs, once it does."""
    with create_session() as session:
        return session.scalar(select(Job.id).where(Job.job_type == "SchedulerJob", Job.state == "running"))


def after_being_lost(run_id, executor):
    """State of a task that its scheduler finds queued for an hour, and how often it was rescheduled, 20 s later."""
    command, settings = [f"{home}/venv/bin/airflow", "scheduler"], {**os.environ, "AIRFLOW__CORE__EXECUTOR": executor}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=settings)
    try:
        while (job_id := job()) is None:
            assert process.poll() is None
            time.sleep(0.2)
        with create_session() as session:
            task = session.scalar(select(TaskInstance).where(TaskInstance.run_id == run_id))
            task.state, task.queued_by_job_id = "queued", job_id
            task.queued_dttm = datetime.now(UTC) - timedelta(hours=1)
        time.sleep(20)
        with create_session() as session:
            state = session.scalar(select(TaskInstance.state).where(TaskInstance.run_id == run_id))
            event = Log.run_id == run_id, Log.event == "stuck in queued reschedule"
            return state, session.scalar(select(func.count()).select_from(Log).where(*event))
    finally:
        process.terminate()
        process.wait()


local = after_being_lost("run0", "LocalExecutor")
revoking = after_being_lost("run1", "revoking.RevokingExecutor")
print(f"LocalExecutor: {local}, with revoke_task: {revoking}")
assert local == ("queued", 0)
assert revoking == ("scheduled", 1)
PY
airflow() { "$work/venv/bin/airflow" "$@" >>"$work/log" 2>&1; }
airflow db migrate
airflow dags reserialize
for number in 0 1; do airflow dags trigger finding --run-id "run$number"; done
"$work/venv/bin/python" -W ignore "$work/run.py"
