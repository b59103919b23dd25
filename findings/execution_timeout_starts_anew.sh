#!/usr/bin/env bash
# Airflow 3.3.1: after each deferral a task has its whole execution_timeout again, and while it is deferred it has none.
#
# The documentation of deferring says that execution_timeout counts the total run time, so that a task can fail while
# it is deferred or soon after it resumed; Airflow 2 did that. Airflow 3 times each stretch in a worker by itself, and
# stores no limit for the trigger unless defer() is given one. So setting deferrable=True takes the limit off a task:
# what was cut after an hour waits as long as its trigger does, and a task that defers in a loop never ends by it.
#
# Seen: a limit of 3 s; 4 s of work at once: failed; 2 s of work, 1 s deferred with no limit stored, 2 s of work:
# success.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/airflow" db migrate >"$work/log" 2>&1
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
import time
from datetime import timedelta

from airflow.sdk import BaseOperator, dag, task
from airflow.triggers.base import BaseTrigger, TriggerEvent


class Ask(BaseTrigger):
    def serialize(self):
        return "finding.Ask", {}

    async def run(self):
        yield TriggerEvent("answer")


class Deferred(BaseOperator):
    def execute(self, context):
        time.sleep(2)
        self.defer(trigger=Ask(), method_name="resume")

    def resume(self, context, event):
        time.sleep(2)


@dag(schedule=None, default_args={"execution_timeout": timedelta(seconds=3)})
def finding():
    @task
    def at_once():
        time.sleep(4)

    at_once()
    Deferred(task_id="deferred")


made = finding()
if __name__ == "__main__":
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.sdk.definitions.dag import _run_task
    from airflow.utils.session import create_session
    from sqlalchemy import select

    made.test(mark_success_pattern=".*")  # makes the run; no task is called

    def stored(task_id, session):
        return session.scalar(select(TaskInstance).where(TaskInstance.task_id == task_id))

    def run(task_id):
        with create_session() as session:
            instance = stored(task_id, session)
            instance.state = "scheduled"
        return _run_task(ti=instance, task=made.get_task(task_id)).ti.state.value

    at_once, first = run("at_once"), run("deferred")
    time.sleep(1)
    with create_session() as session:
        waiting = stored("deferred", session)
        state, limit = waiting.state, waiting.trigger_timeout
        Trigger.submit_event(waiting.trigger_id, TriggerEvent("answer"), session=session)
    second = run("deferred")
    print("at once:", at_once, "deferred:", first, "limit:", limit, "resumed:", second)
    assert at_once == "failed"
    assert (first, state, limit) == ("deferred", "deferred", None)
    assert second == "success"
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>"$work/log"
