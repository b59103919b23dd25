#!/usr/bin/env bash
# Airflow 3.3.1: a loop over what mapped tasks returned makes a request for each value, and again for each loop.
#
# A task that is given the output of a mapped task gets a sequence that looks like a list. Each step of a loop over it
# is a request to the API server of its own, and one more, answered by 404, finds the end; nothing is kept, so that
# sum() and max() of the same values read them twice, and so does each comparison with a list. Only a slice is read at
# once: values[:] is one request, and so is xcom_pull() of the same values. A summary of a thousand mapped tasks makes a
# thousand requests.
#
# Seen, for ten values: list(values), which asks for the length too, 12 requests; sum and max 22; values[:] 1; xcom_pull
# 1; all the same values.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
import json
import os
from contextlib import contextmanager
from pathlib import Path

from airflow.sdk import dag, get_current_context, task


@contextmanager
def requests(seen, title):
    """Count the messages that the task sends to get the values."""
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    kind, sent = type(SUPERVISOR_COMMS), []
    send = kind.send
    kind.send = lambda *message, **options: sent.append(message) or send(*message, **options)
    try:
        yield
    finally:
        kind.send = send
        seen[title] = len(sent)


@dag(schedule=None)
def finding():
    @task
    def double(value):
        return value * 2

    @task
    def read(values):
        seen = {}
        with requests(seen, "list"):
            listed = list(values)
        with requests(seen, "sum and max"):
            sum(values), max(values)
        with requests(seen, "slice"):
            sliced = values[:]
        with requests(seen, "xcom_pull"):
            pulled = list(get_current_context()["ti"].xcom_pull(task_ids="double"))
        assert listed == sliced == pulled == list(range(0, 20, 2))
        Path(os.environ["AIRFLOW_HOME"], "seen").write_text(json.dumps(seen))

    read(double.expand(value=list(range(10))))


made = finding()
if __name__ == "__main__":
    assert made.test().state == "success"
    seen = json.loads(Path(os.environ["AIRFLOW_HOME"], "seen").read_text())
    print(seen)
    assert seen == {"list": 12, "sum and max": 22, "slice": 1, "xcom_pull": 1}
PY
"$work/venv/bin/airflow" db migrate >"$work/log" 2>&1
"$work/venv/bin/python" -W ignore "$work/dags/finding.py"
