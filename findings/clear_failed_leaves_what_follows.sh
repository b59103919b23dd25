#!/usr/bin/env bash
# Airflow 3.3.1: clearing what failed of a run "with downstream" leaves what follows as it was.
#
# The API clears the failed tasks of a run by "dag_run_id" and "only_failed", and has "include_downstream". Without names
# of tasks, though, that option is ignored, and with them "only_failed" applies to what follows as well: a report with
# trigger rule "all_done", which was a success, goes on to say that a delivery failed which has succeeded since. Of a run
# that reached its dagrun_timeout, Airflow has set to "skipped" whatever was left, and skipped is not failed. What works:
# name the tasks, and say "only_failed": false.
#
# Seen: deliver failed, report success or skipped: with only_failed deliver alone is cleared, named or not; named and
# without only_failed, both are.
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


@dag(schedule="@daily", start_date=pendulum.datetime(2026, 1, 1))
def daily():
    @task
    def deliver():
        pass

    @task(trigger_rule="all_done")
    def report():
        pass

    deliver() >> report()


daily()
PY
airflow() { "$work/venv/bin/airflow" "$@" >>"$work/log" 2>&1; }
airflow db migrate
airflow dags reserialize
airflow dags trigger daily --run-id run
"$work/venv/bin/python" -W ignore - <<'PY'
from airflow.api_fastapi.core_api.datamodels.task_instances import ClearTaskInstancesBody
from airflow.api_fastapi.core_api.routes.public.task_instances import post_clear_task_instances
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import select


def cleared(report, **body):
    """What is cleared with downstream, where deliver has failed and report ended so."""
    asked = ClearTaskInstancesBody(dag_run_id="run", include_downstream=True, **body)
    with create_session() as session:
        run = session.scalar(select(DagRun))
        for task, state in (("deliver", "failed"), ("report", report)):
            run.get_task_instance(task, session=session).state = state
        session.flush()
        answer = post_clear_task_instances("daily", DBDagBag(), asked, session, None)
        return sorted(task.task_id for task in answer.task_instances)


for report in ("success", "skipped"):
    found = {
        "what failed": cleared(report, only_failed=True),
        "what failed, named": cleared(report, only_failed=True, task_ids=["deliver"]),
        "named": cleared(report, only_failed=False, task_ids=["deliver"]),
    }
    print("report", report, found)
    assert found == {
        "what failed": ["deliver"],
        "what failed, named": ["deliver"],
        "named": ["deliver", "report"],
    }
PY
