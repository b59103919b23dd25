#!/usr/bin/env bash
# Airflow 3.3.1, standard provider 1.17.0: the usual execution_timeout of a DAG's tasks answers for the person.
#
# A limit of some minutes in default_args stops tasks that hang. A Human-in-the-loop task takes it for response_timeout,
# the time in which somebody must answer, unless it has one of its own, and has no execution_timeout then. A request
# without a default fails for everybody who is slower than a task may be. One with a default is answered by it, and
# HITLEntryOperator has the default OK: an empty form is sent. The only notice is a deprecation warning of the parser.
# An ApprovalOperator whose default is Approve, for nights without people, approves after minutes.
#
# Seen, with a limit of two seconds and no response_timeout: both are answered two seconds later, by nobody: Approve,
# and OK, and end in success. Without the limit there is no time-out.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-standard==1.17.0

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/airflow" db migrate >"$work/log" 2>&1
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
import time
from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLEntryOperator
from airflow.sdk import dag

limit = timedelta(seconds=2)


@dag(schedule=None, default_args={"execution_timeout": limit})
def finding():
    ApprovalOperator(task_id="approve", subject="Delete all?", defaults="Approve")
    HITLEntryOperator(task_id="enter", subject="Why?")


made = finding()
if __name__ == "__main__":
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.sdk.definitions.dag import _run_task
    from airflow.utils.session import create_session
    from sqlalchemy import select, update

    made.test(mark_success_pattern=".*")  # makes the run; no task is called
    with create_session() as session:
        session.execute(update(TaskInstance).values(state="scheduled"))

    def run(task_id):
        with create_session() as session:
            instance = session.scalar(select(TaskInstance).where(TaskInstance.task_id == task_id))
        state = _run_task(ti=instance, task=made.get_task(task_id)).ti.state.value
        with create_session() as session:
            request = session.scalar(select(HITLDetail).where(HITLDetail.ti_id == instance.id))
            return state, request.chosen_options, request.responded_by

    tasks = [made.get_task(task_id) for task_id in ("approve", "enter")]
    without = ApprovalOperator(task_id="without", subject="Delete all?", defaults="Approve")
    limits = [(task.execution_timeout, task.response_timeout) for task in [*tasks, without]]
    asked = [run("approve"), run("enter")]
    time.sleep(limit.seconds)
    SchedulerJobRunner(Job()).check_awaiting_input_timeouts()
    answered = [run("approve"), run("enter")]
    print("execution_timeout, response_timeout:", limits, "asked:", asked, "later:", answered, sep="\n")
    assert limits == [(None, limit), (None, limit), (None, None)]
    assert asked == [("awaiting_input", None, None)] * 2
    assert answered == [("success", ["Approve"], None), ("success", ["OK"], None)]
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>"$work/log"
