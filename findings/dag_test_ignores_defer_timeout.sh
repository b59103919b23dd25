#!/usr/bin/env bash
# Airflow 3.3.1: dag.test() waits for a trigger beyond the time-out that the task deferred with.
#
# self.defer(..., timeout=...) is how a deferrable sensor keeps its time limit; the scheduler fails a task whose trigger
# is late. dag.test() runs the trigger in its own process, to its end, whatever the time-out. So a test of "the partner
# never answers" does not show the failure that production shows: it waits as long as the trigger does, and then the
# task succeeds.
#
# Seen: a trigger of 5 s and a time-out of 1 s: the task waits at least 5 s and is a success.
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
import time
from datetime import timedelta

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, dag


class Wait(BaseOperator):
    def execute(self, context):
        five_seconds = TimeDeltaTrigger(timedelta(seconds=5))
        self.defer(trigger=five_seconds, method_name="resume", timeout=timedelta(seconds=1))

    def resume(self, context, event):
        return "resumed"


@dag(schedule=None)
def finding():
    Wait(task_id="wait")


made = finding()
if __name__ == "__main__":
    start = time.monotonic()
    task = made.test().get_task_instance("wait")
    print(f"{task.state} after {time.monotonic() - start:.0f} s with a time-out of 1 s")
    assert str(task.state) == "success"
    assert time.monotonic() - start >= 5
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>"$work/log"
