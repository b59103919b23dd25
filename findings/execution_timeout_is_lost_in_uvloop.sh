#!/usr/bin/env bash
# Airflow 3.3.1, uvloop 0.22.1: a task whose coroutine runs on uvloop has no execution_timeout.
#
# Airflow installs uvloop for its own server, so a task may use it for a faster loop. But execution_timeout is an error
# that a handler of SIGALRM raises in the main thread. asyncio's loop lets it through, and the task fails in time.
# uvloop calls the handler in a callback, hands the error to the loop's exception handler, and goes on: the task runs
# for as long as it likes, and is a success.
#
# Seen, both tasks sleeping 4 s with a limit of 1 s: asyncio fails after 1 s, uvloop is a success after 4 s.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  uvloop==0.22.1

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/airflow" db migrate >"$work/log" 2>&1
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
import asyncio
from datetime import timedelta

import uvloop
from airflow.sdk import dag, task

LIMIT = timedelta(seconds=1)


@dag(schedule=None)
def finding():
    @task(execution_timeout=LIMIT)
    def on_asyncio():
        asyncio.run(asyncio.sleep(4))

    @task(execution_timeout=LIMIT)
    def on_uvloop():
        uvloop.run(asyncio.sleep(4))

    on_asyncio()
    on_uvloop()


made = finding()
if __name__ == "__main__":
    run = made.test()
    states = {}
    for name in ("on_asyncio", "on_uvloop"):
        found = run.get_task_instance(name)
        states[name] = str(found.state)
        print(f"{name}: {found.state} after {found.duration:.0f} s with a limit of 1 s")
    assert states == {"on_asyncio": "failed", "on_uvloop": "success"}, states
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>"$work/log"
