#!/usr/bin/env bash
# Airflow 3.3.1, standard provider 1.17.0: a run triggered for a past date has that date, and the data interval of now.
#
# TriggerDagRunOperator takes a logical date, so that a DAG can hand its own on to the next one: a run for the 1st of
# March starts a run for the 1st of March. But the data interval of the new run is inferred from the moment at which it
# is triggered. A task there that reads `ds` works on the 1st of March, one that reads data_interval_start on yesterday;
# a backfill of the first DAG over a year makes a year of runs of the second that all read yesterday's interval.
# `airflow dags trigger --logical-date` does the same. Airflow's API (and so its page) infers the interval from the
# logical date, so the same run by hand is right, and so is a backfill of the second DAG itself.
#
# Seen, for 2026-03-01T06:00 and an interval of a day: operator and CLI: yesterday to now; API: 02-28 to 03-01.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-standard==1.17.0

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL \
  AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS=True
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import CronTriggerTimetable, dag, task

day, march = timedelta(days=1), datetime(2026, 3, 1, 6, tzinfo=timezone.utc)


@dag(schedule=CronTriggerTimetable("0 6 * * *", timezone="UTC", interval=day), catchup=False)
def report():
    @task
    def build():
        pass

    build()


@dag(schedule=None)
def starter():
    TriggerDagRunOperator(task_id="start", trigger_dag_id="report", logical_date="{{ logical_date }}")


report()
made = starter()
if __name__ == "__main__":
    from airflow.api_fastapi.app import create_app
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from fastapi.testclient import TestClient
    from sqlalchemy import delete, select

    def take():
        """Tell the dates of the one run of report, and delete it, as a logical date is unique."""
        with create_session() as session:
            run = session.scalars(select(DagRun).where(DagRun.dag_id == "report")).one()
            dates = run.logical_date, run.data_interval_start, run.data_interval_end, run.run_after
            session.execute(delete(DagRun).where(DagRun.id == run.id))
            return dates

    by_cli = take()
    made.test(logical_date=march)
    by_operator = take()
    with TestClient(create_app()) as api:
        api.headers["Authorization"] = "Bearer " + api.get("/auth/token").json()["access_token"]
        body = {"logical_date": march.isoformat()}
        assert api.post("/api/v2/dags/report/dagRuns", json=body).status_code == 200
    by_api = take()
    now = datetime.now(timezone.utc)
    for name, run in {"CLI": by_cli, "operator": by_operator, "API": by_api}.items():
        print(f"{name}: for {run[0]:%Y-%m-%d %H:%M}, interval {run[1]:%Y-%m-%d %H:%M} to {run[2]:%Y-%m-%d %H:%M}")
    assert by_cli[0] == by_operator[0] == by_api[0] == march
    assert by_api[1:3] == (march - day, march)
    for start, end in (by_cli[1:3], by_operator[1:3]):
        assert end - start == day
        assert timedelta(0) < now - end < timedelta(hours=1)
PY
airflow() { "$work/venv/bin/airflow" "$@" >>"$work/log" 2>&1; }
airflow db migrate
airflow dags reserialize
airflow dags trigger report --logical-date 2026-03-01T06:00:00+00:00
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>"$work/log"
