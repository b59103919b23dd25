#!/usr/bin/env bash
# Airflow 3.3.1: the docstring of a @task function documents the task, but not if the task is mapped.
#
# A function's docstring becomes the task's doc_md, which the UI shows and the REST API gives. Called by expand(), the
# same function is a task without any documentation: the docstring is copied where the decorated function is called,
# and expand() does not pass there. Nothing is logged. doc_md as an argument of @task holds for both.
#
# Seen: doc_md of one function, called and mapped; and of one that is given doc_md as an argument, mapped.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/python" -W ignore - <<'PY'
from airflow.sdk import DAG, task
from airflow.serialization.serialized_objects import DagSerialization


@task
def bill(order):
    """Send the bill of an order."""


@task(doc_md="Send the parcel of an order.")
def ship(order):
    pass


with DAG("orders", schedule=None) as dag:
    bill.override(task_id="bill_one")(1)
    bill.override(task_id="bill_each").expand(order=[1, 2])
    ship.override(task_id="ship_each").expand(order=[1, 2])

# As the API server and the UI read it.
stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
docs = {task.task_id: task.doc_md for task in stored.tasks}
print(docs)
assert docs == {
    "bill_one": "Send the bill of an order.",
    "bill_each": None,
    "ship_each": "Send the parcel of an order.",
}
PY
