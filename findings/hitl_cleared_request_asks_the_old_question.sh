#!/usr/bin/env bash
# Airflow 3.3.1, standard provider 1.17.0: an approval that is cleared asks the question of its first time again.
#
# What a Human-in-the-loop task asks is stored with its task instance. A clear gives the instance a new id, which the
# stored request follows, and when the task asks again Airflow finds it and removes the answer, but neither replaces the
# subject nor the body, the options or the defaults. So the usual repair, clear the task that counted wrongly and all
# after it, shows a person the numbers from before the repair, and what they approve is another thing. The page
# "Rendered Templates" of the same task shows the new text. A new run asks anew.
#
# Seen: "Delete 3 records?" is answered and cleared; the task now renders "Delete 3000 records?", and the request is
# open again as "Delete 3 records?", with the body and the defaults of the first time.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-standard==1.17.0

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/airflow" db migrate >"$work/log" 2>&1
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag, task

found = [3]
subject = "Delete {{ ti.xcom_pull(task_ids='count') }} records?"


@dag(schedule=None)
def finding():
    @task
    def count():
        return found[0]

    count() >> ApprovalOperator(task_id="ask", subject=subject, body="of {{ ti.xcom_pull(task_ids='count') }}")


made = finding()
if __name__ == "__main__":
    from airflow.models.hitl import HITLDetail
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.taskinstance import TaskInstance, clear_task_instances
    from airflow.sdk.definitions.dag import _run_task
    from airflow.utils import timezone
    from airflow.utils.session import create_session
    from sqlalchemy import select

    made.test(mark_success_pattern=".*")  # makes the run; no task is called

    def run(task_id):
        with create_session() as session:
            instance = session.scalar(select(TaskInstance).where(TaskInstance.task_id == task_id))
            instance.state = "scheduled"
        return _run_task(ti=instance, task=made.get_task(task_id)).ti.state.value

    def ask():
        """Run both tasks; tell what the second one rendered, and what a person is asked."""
        assert [run("count"), run("ask")] == ["success", "awaiting_input"]
        with create_session() as session:
            rendered = session.scalar(
                select(RenderedTaskInstanceFields).where(RenderedTaskInstanceFields.task_id == "ask")
            )
            request = session.scalar(select(HITLDetail))
            asked = (request.subject, request.body, request.defaults, request.response_received)
            return rendered.rendered_fields["subject"], asked

    first = ask()
    with create_session() as session:  # what Airflow's API does with an answer, and with a clear
        request = session.scalar(select(HITLDetail))
        request.responded_at, request.chosen_options = timezone.utcnow(), ["Reject"]
    with create_session() as session:
        clear_task_instances(list(session.scalars(select(TaskInstance))), session)
    found[0] = 3000
    made.get_task("ask").defaults = ["Reject"]  # the DAG's file was mended too
    second = ask()
    print("rendered, asked:", first, second, sep="\n")
    assert first == ("Delete 3 records?", ("Delete 3 records?", "of 3", None, False))
    assert second == ("Delete 3000 records?", ("Delete 3 records?", "of 3", None, False))
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>"$work/log"
