#!/usr/bin/env bash
# Airflow 3.3.1, common.io provider 1.8.0: when an XCom's object is gone from the store, a task gets its path instead.
#
# XComObjectStorageBackend keeps large values in S3 and their paths in the database. The objects stay when a run is
# deleted or the database is cleaned, so buckets have a rule that deletes them after some weeks. Whoever then clears a
# task of an older run expects an error. But an object that is not there, or is no whole JSON, is taken for a value that
# was small: the task gets the text "s3://...". Where text or a list would do, it goes on and is a success: len() is the
# length of the path, a loop is over its letters, a copy writes the path into the target.
#
# Seen: of a list of three numbers: 3 elements; with its file deleted: a text, as long as the path, and the task is a
# success; with the file cut off: the same.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-common-io==1.8.0

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
export AIRFLOW__CORE__XCOM_BACKEND=airflow.providers.common.io.xcom.backend.XComObjectStorageBackend
export AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH=file://$work/xcoms AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD=0
"$work/venv/bin/airflow" db migrate >"$work/log" 2>&1
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
import json
import os
from pathlib import Path

from airflow.sdk import dag, task

HOME = Path(os.environ["AIRFLOW_HOME"])


@dag(schedule=None)
def finding():
    @task
    def list_orders():
        return [1, 2, 3]

    @task
    def change(how):
        """What a rule of the bucket, or an upload that broke off, does to the object."""
        (stored,) = (HOME / "xcoms/finding").glob("*/list_orders/*")
        match how:
            case "delete":
                stored.unlink()
            case "cut":
                stored.write_text(stored.read_text()[:-1])

    @task
    def count(orders, how):
        (HOME / how).write_text(json.dumps([type(orders).__name__, len(orders), str(orders)]))

    orders, before = list_orders(), None
    for how in ("keep", "cut", "delete"):
        changed = change.override(task_id=f"change_{how}")(how)
        counted = count.override(task_id=f"count_{how}")(orders, how)
        before >> changed if before else orders >> changed
        changed >> counted
        before = counted


made = finding()
if __name__ == "__main__":
    state = made.test().state
    seen = {how: json.loads((HOME / how).read_text()) for how in ("keep", "cut", "delete")}
    print("run:", state, *seen.items(), sep="\n")
    assert state == "success"
    assert seen["keep"][:2] == ["list", 3]
    for kind, length, text in (seen["cut"], seen["delete"]):
        assert kind == "str"
        assert length == len(text)
        assert text.startswith(f"file://{HOME}/xcoms/finding/")
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>>"$work/log" || { tail "$work/log"; exit 1; }
