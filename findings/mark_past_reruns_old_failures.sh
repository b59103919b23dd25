#!/usr/bin/env bash
# Airflow 3.3.1: marking a task as a success "with past" runs old failed tasks again that were not marked.
#
# "Mark as success" sets a task's state and clears the failed tasks behind it, so that the run can go on. The option
# "past" (include_past of the API, "future" likewise) sets the task in earlier runs as well. What is cleared is another
# set: every failed task behind it in all runs of that time, also of runs whose task was a success already, so that
# nothing was to be marked. A delivery that failed months ago and was settled by hand starts again, with its old data.
# The preview, which the dialog shows before people confirm, lists the marked tasks alone.
#
# Seen: 1 March: check success, deliver failed; 3 March: check failed. Check of 3 March is marked with past: preview and
# answer name it alone; deliver of 1 March is cleared, and its run is the first that the scheduler starts.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
import pendulum
from airflow.sdk import dag, task


@dag(schedule="@daily", start_date=pendulum.datetime(2026, 1, 1))
def daily():
    @task
    def check():
        pass

    @task
    def deliver():
        pass

    check() >> deliver()


daily()
PY
airflow() { "$work/venv/bin/airflow" "$@" >>"$work/log" 2>&1; }
airflow db migrate
airflow dags reserialize
airflow dags unpause daily -y
for day in 1 2 3; do airflow dags trigger daily --run-id "march-$day" --logical-date "2026-03-0$day"; done
"$work/venv/bin/python" -W ignore - <<'PY'
from airflow.api_fastapi.core_api.datamodels.task_instances import PatchTaskInstanceBody
from airflow.api_fastapi.core_api.routes.public.task_instances import patch_task_instance, patch_task_instance_dry_run
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import select

ENDED = {
    "march-1": ("failed", "success", "failed"),
    "march-2": ("success", "success", "success"),
    "march-3": ("failed", "failed", "upstream_failed"),
}
TASKS = ("check", "deliver")


def states():
    with create_session() as session:
        return {
            run.run_id: (str(run.state), *(str(run.get_task_instance(task, session=session).state) for task in TASKS))
            for run in session.scalars(select(DagRun).order_by(DagRun.logical_date))
        }


def names(answer):
    return [(task.run_id, task.task_id) for task in answer.task_instances]


with create_session() as session:
    for run in session.scalars(select(DagRun)):
        run.state, *ends = ENDED[run.run_id]
        for task, end in zip(TASKS, ends, strict=True):
            run.get_task_instance(task, session=session).state = end
assert states() == ENDED
body = PatchTaskInstanceBody(new_state="success", include_past=True)
which = {"dag_id": "daily", "dag_run_id": "march-3", "task_id": "check", "dag_bag": DBDagBag(), "body": body}
with create_session() as session:
    preview = names(patch_task_instance_dry_run(**which, session=session, update_mask=None))
with create_session() as session:
    answer = names(patch_task_instance(**which, session=session, update_mask=None, user=None))
after = states()
with create_session() as session:
    started = [run.run_id for run in DagRun.get_queued_dag_runs_to_set_running(session=session)]
print("preview:", preview, "answer:", answer, "before:", ENDED, "after:", after, "started:", started, sep="\n")
assert preview == answer == [("march-3", "check")]
assert after == {
    "march-1": ("queued", "success", "None"),
    "march-2": ENDED["march-2"],
    "march-3": ("queued", "success", "None"),
}
assert started[0] == "march-1"
PY
