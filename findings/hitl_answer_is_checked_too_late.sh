#!/usr/bin/env bash
# Airflow 3.3.1, standard provider 1.17.0: a form's answer is checked when it cannot be corrected any more.
#
# HITLEntryOperator shows a form whose fields are params with a schema. The API checks the chosen option and takes any
# fields: the person reads 200. The worker checks them afterwards, and the task fails; whoever sees the mistake and
# answers again gets 409, as there is one answer. A form that is sent without its fields is not checked at all: the task
# is a success whose result has no fields, not even their defaults. And a field without a default, which is how a DAG's
# param is made required, fails the task before anybody is asked, so none can be required.
#
# Seen: limit 5000, which the schema refuses: 200, failed (ParamValidationError), 409 for 50. No fields: 200, success,
# {}. A field without default: failed, no request.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-standard==1.17.0

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL \
  AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS=True
"$work/venv/bin/airflow" db migrate >"$work/log" 2>&1
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
from airflow.providers.standard.operators.hitl import HITLEntryOperator
from airflow.sdk import Param, dag

limit = Param(10, type="integer", minimum=1, maximum=100)
no_default = Param(type="integer", minimum=1, maximum=100)


@dag(schedule=None)
def finding():
    for task_id, param in {"refused": limit, "left_out": limit, "right": limit, "required": no_default}.items():
        HITLEntryOperator(task_id=task_id, subject="How many records?", params={"limit": param})


made = finding()
if __name__ == "__main__":
    from airflow.api_fastapi.app import create_app
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.sdk.definitions.dag import _run_task
    from airflow.utils.session import create_session
    from fastapi.testclient import TestClient
    from sqlalchemy import select

    run_id = made.test(mark_success_pattern=".*").run_id  # makes the run; no task is called

    def run(task_id, **state):
        with create_session() as session:
            instance = session.scalar(select(TaskInstance).where(TaskInstance.task_id == task_id))
            instance.state = state.get("state", instance.state)
        result = _run_task(ti=instance, task=made.get_task(task_id))
        with create_session() as session:
            instance = session.scalar(select(TaskInstance).where(TaskInstance.task_id == task_id))
            returned = instance.xcom_pull(task_ids=task_id)
            asked = session.scalar(select(HITLDetail).where(HITLDetail.ti_id == instance.id)) is not None
            return str(instance.state), asked, returned and returned["params_input"], result and result.error

    with TestClient(create_app()) as api:
        api.headers["Authorization"] = "Bearer " + api.get("/auth/token").json()["access_token"]

        def answer(task_id, fields):
            path = f"/api/v2/dags/finding/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
            return api.patch(path, json={"chosen_options": ["OK"], "params_input": fields}).status_code

        def ask_and_answer(task_id, fields):
            assert run(task_id, state="scheduled")[:2] == ("awaiting_input", True)
            status = answer(task_id, fields)
            state, _, returned, error = run(task_id)
            return status, state, returned, type(error).__name__

        refused = ask_and_answer("refused", {"limit": 5000})
        corrected = answer("refused", {"limit": 50})
        left_out = ask_and_answer("left_out", {})
        right = ask_and_answer("right", {"limit": 50})
        required = run("required", state="scheduled")
    print("refused by the schema:", refused, "corrected:", corrected)
    print("no fields:", left_out, "right:", right, "field without default:", required)
    assert refused == (200, "failed", None, "ParamValidationError")
    assert corrected == 409
    assert left_out == (200, "success", {}, "NoneType")
    assert right == (200, "success", {"limit": 50}, "NoneType")
    assert required[:2] == ("failed", False)
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>"$work/log"
