#!/usr/bin/env bash
# Airflow 3.3.1, standard provider 1.17.0: TriggerDagRunOperator runs again what it was told to skip.
#
# With a trigger_run_id as the business key, skip_when_already_exists=True makes a repeated trigger harmless: the task
# is skipped. reset_dag_run=True, often set for all triggers by a helper or default_args, is not refused beside it and
# wins: the finished run is cleared and starts anew, and the triggering task is a success. So work that was to happen
# once per key happens at each trigger, and nothing is logged about the option that was not obeyed.
#
# Seen: the run of key order-1 had succeeded; skip alone: skipped, run untouched; both options: success, the run is
# queued again with clear_number 1.
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
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models import DagRun
from airflow.models.dagbundle import DagBundleModel
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag, task
from airflow.utils.session import create_session
from sqlalchemy import select, update


@dag(schedule=None)
def orders():
    @task
    def process():
        pass

    process()


def trigger(name, **options):
    @dag(dag_id=name, schedule=None)
    def starter():
        TriggerDagRunOperator(task_id="start", trigger_dag_id="orders", trigger_run_id="order-1", **options)

    return starter()


orders()
skipping = trigger("skipping", skip_when_already_exists=True)
both = trigger("both", skip_when_already_exists=True, reset_dag_run=True)


def start(dag):
    state = str(dag.test().get_task_instance("start").state)
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_id == "order-1"))
        return state, str(run.state), run.clear_number


if __name__ == "__main__":
    with create_session() as session:
        session.add(DagBundleModel(name="dags-folder"))
    sync_bag_to_db(DagBag(__file__), "dags-folder", None)
    first = start(skipping)
    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.run_id == "order-1").values(state="success"))
    again, with_both = start(skipping), start(both)
    print("first:", first, "skip:", again, "skip and reset:", with_both, sep="\n")
    assert first == ("success", "queued", 0)
    assert again == ("skipped", "success", 0)
    assert with_both == ("success", "queued", 1)
PY
"$work/venv/bin/python" -W ignore "$work/dags/finding.py" 2>"$work/log"
