#!/usr/bin/env bash
# Airflow 3.3.1: a retry policy never sees what a trigger raised, so a rule for it holds until the task is deferrable.
#
# A retry policy is documented to get the exception that failed the task. For an error raised in a trigger there is
# none: the triggerer stores its traceback as text, the task is scheduled once more only to fail, and the policy is
# asked about a TaskDeferralError. A rule that fails at once for a revoked key, or one that waits for a throttled
# service, stops matching on the day somebody sets deferrable=True; the task then goes through all its retries, with
# the default delay. A trigger has to send the error as an event, for the task to raise it again.
#
# Seen: the same error and rule (FAIL for PermissionError): raised in the worker: FAIL, failed; raised in the trigger:
# the policy gets TaskDeferralError, DEFAULT, up_for_retry.
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
import asyncio

from airflow.sdk import BaseOperator, ExceptionRetryPolicy, RetryAction, RetryRule, dag, task
from airflow.triggers.base import BaseTrigger

asked = []


class Watched(ExceptionRetryPolicy):
    def evaluate(self, exception, *args, **kwargs):
        decision = super().evaluate(exception, *args, **kwargs)
        asked.append((type(exception).__name__, decision.action.name))
        return decision


class Ask(BaseTrigger):
    def serialize(self):
        return "finding.Ask", {}

    async def run(self):
        raise PermissionError("the key was revoked")
        yield


class InTrigger(BaseOperator):
    def execute(self, context):
        self.defer(trigger=Ask(), method_name="resume")

    def resume(self, context, event):
        pass


fail_at_once = Watched([RetryRule(PermissionError, RetryAction.FAIL)])


@dag(schedule=None, default_args={"retries": 3, "retry_policy": fail_at_once})
def finding():
    @task
    def in_worker():
        raise PermissionError("the key was revoked")

    in_worker()
    InTrigger(task_id="in_trigger")


made = finding()
if __name__ == "__main__":
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.sdk.definitions.dag import _run_task
    from airflow.utils.session import create_session
    from sqlalchemy import select

    made.test(mark_success_pattern=".*")  # makes the run; no task is called

    def run(task_id):
        with create_session() as session:
            instance = session.scalar(select(TaskInstance).where(TaskInstance.task_id == task_id))
            instance.state = "scheduled"
        return _run_task(ti=instance, task=made.get_task(task_id)).ti.state.value

    def run_trigger():
        """Do what the triggerer does: run the trigger, hand its error to Airflow."""
        with create_session() as session:
            instance = session.scalar(select(TaskInstance).where(TaskInstance.task_id == "in_trigger"))
            try:
                asyncio.run(anext(Ask().run()))
            except PermissionError as error:
                Trigger.submit_failure(trigger_id=instance.trigger_id, exc=error, session=session)

    worker = run("in_worker")
    deferred = run("in_trigger")
    run_trigger()
    trigger = run("in_trigger")
    print("in the worker:", worker, asked[0])
    print("in the trigger:", deferred, trigger, asked[1])
    assert (worker, asked[0]) == ("failed", ("PermissionError", "FAIL"))
    assert deferred == "deferred"
    assert (trigger, asked[1]) == ("up_for_retry", ("TaskDeferralError", "DEFAULT"))
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>"$work/log"
