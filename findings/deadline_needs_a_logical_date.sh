#!/usr/bin/env bash
# Airflow 3.3.1: a run without a logical date has no deadline, and a run for an old date has missed it when it is
# made.
#
# DeadlineReference.DAGRUN_LOGICAL_DATE counts from a run's logical date. `airflow dags trigger`, the API with
# logical_date null and asset events make runs without one: their deadline is left out, without an error, and the only
# trace is a warning that the run, which exists, was not found. So the run that somebody starts by hand because the
# scheduled one failed is not watched. With a logical date in the past, as each run of a backfill has it, the deadline
# is over before the run starts, and the alert is sent. DAGRUN_QUEUED_AT has neither problem.
#
# Seen: no logical date: no deadline; logical date 2026-01-01: deadline 2026-01-01T01:00; by DAGRUN_QUEUED_AT: an hour
# after queued_at.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
from datetime import timedelta

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference, dag, task


def define(dag_id, reference):
    @dag(dag_id, schedule=None, deadline=DeadlineAlert(reference, timedelta(hours=1), AsyncCallback("alerts.late")))
    def finding():
        @task
        def work():
            pass

        work()

    finding()


define("by_logical_date", DeadlineReference.DAGRUN_LOGICAL_DATE)
define("by_queued_at", DeadlineReference.DAGRUN_QUEUED_AT)
PY
airflow() { "$work/venv/bin/airflow" "$@" >>"$work/log" 2>&1; }
airflow db migrate
airflow dags reserialize
airflow dags trigger by_logical_date --run-id by_hand
airflow dags trigger by_logical_date --run-id old --logical-date 2026-01-01T00:00:00+00:00
airflow dags trigger by_queued_at --run-id queued
"$work/venv/bin/python" -W ignore - <<'PY'
from datetime import UTC, datetime, timedelta

from airflow.models.dagrun import DagRun
from airflow.models.deadline import Deadline
from airflow.utils.session import create_session
from sqlalchemy import select

with create_session() as session:
    runs = session.execute(select(DagRun, Deadline).outerjoin(Deadline, Deadline.dagrun_id == DagRun.id)).all()
    deadline = {run.run_id: found and found.deadline_time for run, found in runs}
    queued_at = {run.run_id: run.queued_at for run, _ in runs}
print({run_id: time and time.isoformat(timespec="minutes") for run_id, time in deadline.items()})
assert deadline["by_hand"] is None
assert deadline["old"] == datetime(2026, 1, 1, 1, tzinfo=UTC) < queued_at["old"]
assert deadline["queued"] == queued_at["queued"] + timedelta(hours=1)
PY
