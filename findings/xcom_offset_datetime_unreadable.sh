#!/usr/bin/env bash
# Airflow 3.3.1: a datetime with an offset, such as +05:30, can be returned by a task but not read by the next one.
#
# datetime.fromisoformat() of a text with an offset other than zero gives a standard datetime.timezone. The serializer
# knows zones by name, UTC, and pendulum's own offsets; for this one it writes an empty zone and reports success. The
# task that returned it is green and its retries are spent; the one that reads it fails, on every try, with a message
# about ZoneInfo keys that names neither the task nor the value. pendulum.parse() of the same text goes through, and so
# does "Z": a partner that changes from winter to summer time starts to fail.
#
# Seen: task "send" success, task "receive" failed, for +05:30; both success for Z and for pendulum's +05:30.
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
from datetime import datetime

import pendulum
from airflow.sdk import dag, task


def pipeline(name, read, text):
    @dag(dag_id=name, schedule=None)
    def finding():
        @task
        def send():
            return read(text)

        @task
        def receive(when):
            return when.isoformat()

        receive(send())

    return finding()


dags = {
    "offset": pipeline("offset", datetime.fromisoformat, "2026-03-01T09:30:00+05:30"),
    "zulu": pipeline("zulu", datetime.fromisoformat, "2026-03-01T09:30:00Z"),
    "pendulum": pipeline("pendulum", pendulum.parse, "2026-03-01T09:30:00+05:30"),
}
globals().update(dags)
if __name__ == "__main__":
    states = {}
    for name, made in dags.items():
        run = made.test()
        states[name] = [str(run.get_task_instance(task_id).state) for task_id in ("send", "receive")]
    print(states)
    assert states["offset"] == ["success", "failed"]
    assert states["zulu"] == states["pendulum"] == ["success", "success"]
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py"
