#!/usr/bin/env bash
# Airflow 3.3.1, standard provider 1.17.0: a deferred ExternalTaskSensor of two tasks misses that one of them failed,
# and may succeed before one of them has run.
#
# The sensor counts the instances of its tasks that are in a state and divides by the number of its tasks. In the worker
# any share of failed_states or skipped_states counts. The trigger makes the share a whole number first, so that one
# failed task of two is none: deferred, the sensor waits for the other state until its time-out, seven days by default.
# A mapped task counts once for each instance: three of them and none of the other task are 1.5, which the trigger takes
# for "both tasks done"; when both are done, neither mode ever succeeds. And check_existence, which is to fail a sensor
# at once whose DAG or task does not exist, does nothing in Airflow 3: a misspelt id is waited for.
#
# Seen, by worker and trigger: extract failed, check queued: failed, waits; three of load done, check queued: waits,
# success; all four done: waits, waits; a DAG that does not exist, with check_existence: waits.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-standard==1.17.0

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir "$work/dags"
cat >"$work/dags/orders.py" <<'PY'
from airflow.sdk import dag, task


@dag(schedule=None)
def orders():
    @task
    def extract():
        pass

    @task
    def load(part):
        pass

    @task
    def check():
        pass

    extract() >> load.expand(part=[1, 2, 3]) >> check()


orders()
PY
cat >"$work/dags/finding.py" <<'PY'
import asyncio
import json
import os

import pendulum
from airflow.models.taskinstance import TaskInstance
from airflow.providers.standard.exceptions import ExternalTaskFailedError
from airflow.providers.standard.sensors.external_task import ExternalTaskSensor
from airflow.providers.standard.triggers.external_task import WorkflowTrigger
from airflow.sdk import dag, get_current_context, task
from airflow.utils.session import create_session
from sqlalchemy import update

DAY = pendulum.datetime(2026, 3, 1)


def by_worker(task_ids, external_dag_id="orders", **options):
    sensor = ExternalTaskSensor(
        task_id="wait",
        external_dag_id=external_dag_id,
        external_task_ids=task_ids,
        failed_states=["failed"],
        execution_date_fn=lambda _: DAY,
        **options,
    )
    try:
        return "success" if sensor.poke(get_current_context()) else "waits"
    except ExternalTaskFailedError:
        return "failed"


def by_trigger(task_ids):
    """What the trigger of the same sensor says at its first look; it then sleeps."""
    states = {"allowed_states": ["success"], "failed_states": ["failed"], "poke_interval": 3600}
    trigger = WorkflowTrigger("orders", logical_dates=[DAY], external_task_ids=task_ids, **states)
    asleep = asyncio.Event()

    async def first_look():
        trigger.log.info = lambda *_: asleep.set()
        looks = [asyncio.ensure_future(anext(trigger.run())), asyncio.ensure_future(asleep.wait())]
        await asyncio.wait(looks, return_when=asyncio.FIRST_COMPLETED)
        return looks[0].result().payload["status"] if looks[0].done() else "waits"

    return asyncio.run(first_look())


def is_now(task_id, state):
    with create_session() as session:
        these = (TaskInstance.dag_id == "orders", TaskInstance.task_id == task_id)
        session.execute(update(TaskInstance).where(*these).values(state=state))


@dag(schedule=None)
def finding():
    @task
    def look():
        is_now("check", "queued")
        is_now("extract", "failed")
        one_failed = by_worker(["extract", "check"]), by_trigger(["extract", "check"])
        is_now("load", "success")
        mapped_done = by_worker(["load", "check"]), by_trigger(["load", "check"])
        is_now("check", "success")
        all_done = by_worker(["load", "check"]), by_trigger(["load", "check"])
        misspelt = by_worker(["check"], external_dag_id="order", check_existence=True)
        with open(os.path.join(os.environ["AIRFLOW_HOME"], "seen"), "w") as file:
            json.dump([one_failed, mapped_done, all_done, misspelt], file)

    look()


made = finding()
if __name__ == "__main__":
    assert made.test().state == "success"
    with open(os.path.join(os.environ["AIRFLOW_HOME"], "seen")) as file:
        one_failed, mapped_done, all_done, misspelt = json.load(file)
    print("one failed:", one_failed, "mapped done:", mapped_done, "all done:", all_done, "misspelt:", misspelt)
    assert one_failed == ["failed", "waits"]
    assert mapped_done == ["waits", "success"]
    assert all_done == ["waits", "waits"]
    assert misspelt == "waits"
PY
airflow() { "$work/venv/bin/airflow" "$@" >>"$work/log" 2>&1; }
airflow db migrate
airflow dags reserialize
airflow dags trigger orders --logical-date 2026-03-01
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>>"$work/log"
