#!/usr/bin/env bash
# Airflow 3.3.1: `airflow dags test DAG DATE` says that the run started at DATE.
#
# The start of a run is when its scheduler began it, whatever day the run is for, and tasks reckon with it: what is left
# of the run's time, how long it took. dag.test(), which the command calls, writes the logical date there. A task that
# keeps a time limit of its run gives up at once in a test of a past day, and a duration that is sent to a monitoring
# system is one of years.
#
# Seen: a run for 1 June 2021, tested now: its task sees a run that has been going on for years.
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
from datetime import UTC, datetime

from airflow.sdk import dag, get_current_context, task


@dag(schedule=None, start_date=datetime(2020, 1, 1, tzinfo=UTC))
def finding():
    @task
    def how_long():
        return (datetime.now(UTC) - get_current_context()["dag_run"].start_date).days

    how_long()


made = finding()
if __name__ == "__main__":
    run = made.test(logical_date=datetime(2021, 6, 1, tzinfo=UTC))
    days = run.get_task_instance("how_long").xcom_pull(task_ids="how_long")
    print(f"a run that was begun just now says that it started {days} days ago, at {run.start_date}")
    assert days > 365
    assert run.start_date == run.logical_date
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>"$work/log" || { tail -5 "$work/log"; exit 1; }
