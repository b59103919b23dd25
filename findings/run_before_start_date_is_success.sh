#!/usr/bin/env bash
# Airflow 3.3.1: a run by hand for a day before the DAG's start_date has no tasks, and is a success.
#
# A run is given a past logical date to do an old day again: with `airflow dags trigger --logical-date`, in the UI's
# form, or with `airflow dags test`. If the day is before start_date, tasks are left out of the run without a word, a run
# without tasks ends well, and nothing of the tasks, such as a callback, can say anything. A backfill's run of the same
# day has them.
#
# Seen: a DAG that begins on 1 January 2020. A run of 2021 does its work; one of 2019 has no task and is a success; one
# of a backfill of 2019 has its task.
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

from airflow.sdk import dag, task


@dag(schedule="@daily", start_date=datetime(2020, 1, 1, tzinfo=UTC), catchup=False)
def finding():
    @task
    def work():
        return "done"

    work()


made = finding()
if __name__ == "__main__":
    for year, expected in (2021, ["success"]), (2019, []):
        run = made.test(logical_date=datetime(year, 6, 1, tzinfo=UTC))
        states = [str(task.state) for task in run.get_task_instances()]
        print(f"a run of {year} is a {run.state}; its tasks: {states}")
        assert (str(run.state), states) == ("success", expected)

    from airflow.models.backfill import ReprocessBehavior, _create_backfill
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    day = datetime(2019, 6, 2, tzinfo=UTC)
    _create_backfill(
        dag_id="finding",
        from_date=day,
        to_date=day,
        max_active_runs=1,
        reverse=False,
        dag_run_conf={},
        triggering_user_name="somebody",
        reprocess_behavior=ReprocessBehavior.NONE,
    )
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_type == "backfill"))
        tasks = [task.task_id for task in run.get_task_instances(session=session)]
        print(f"a backfill's run of 2019 has its tasks: {tasks}")
        assert tasks == ["work"]
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>"$work/log" || { tail -5 "$work/log"; exit 1; }
