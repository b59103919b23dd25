#!/usr/bin/env bash
# Airflow 3.3.1: with a free parsing process a DAG's failure callback waits for the next parse of its file, and may be
# lost.
#
# on_failure_callback of a DAG runs in the DAG processor, which takes the request out of the database and queues the
# DAG's file. If that file is being parsed at this moment and another of the parsing processes (two by default) is
# free, the queue's entry is dropped: no two processes for one file. The request stays in memory, and is executed when
# the file is parsed the next time, after min_file_process_interval. A large one, as for files that change with
# deployments only, makes that an hour; a processor that is restarted before has forgotten it. With one parsing process
# the entry waits in the queue and is executed next. After each callback the file is parsed once more, so of two runs
# that fail within seconds it is the second that nobody is told of.
#
# Seen, for an interval of 60 s and a file that takes 10 s: told of the second failure after 80 s with two processes,
# after 20 s with one; with two and a restart never, and the request is gone.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
export AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL=60
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
import os
import time

from airflow.sdk import dag, task


def note(name):
    with open(os.path.join(os.environ["AIRFLOW_HOME"], name), "a") as file:
        file.write("x")


note("begun")
time.sleep(10)  # what large imports take


@dag(schedule=None, on_failure_callback=lambda context: note(context["run_id"]))
def finding():
    @task
    def work():
        pass

    work()


finding()
note("ended")
PY
cat >"$work/run.py" <<'PY'
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from airflow.callbacks.database_callback_sink import DatabaseCallbackSink
from airflow.models.dag import DagModel
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.db_callback_request import DbCallbackRequest
from airflow.utils.session import create_session
from sqlalchemy import func, select

home = Path(os.environ["AIRFLOW_HOME"])


@contextmanager
def processor(slots):
    settings = {**os.environ, "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": str(slots)}
    command = [f"{home}/venv/bin/airflow", "dag-processor"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=settings)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def fail(run_id):
    """Let the run fail and send its callback, as the scheduler does."""
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_id == run_id))
        run.dag = DBDagBag().get_dag_for_run(run, session=session)
        run.state = "running"
        run.get_task_instance("work", session=session).state = "failed"
        session.flush()
        _, request = run.update_state(session=session, execute_callbacks=False)
        DatabaseCallbackSink().send(request, session=session)


def requests():
    with create_session() as session:
        return session.scalar(select(func.count()).select_from(DbCallbackRequest))


def count(name):
    return len((home / name).read_text()) if (home / name).exists() else 0


def until(true, seconds=300):
    start = time.monotonic()
    while not true() and time.monotonic() - start < seconds:
        time.sleep(0.05)
    return time.monotonic() - start if true() else None


def until_parsed():
    def parsed():
        with create_session() as session:
            return session.scalar(select(DagModel.last_parsed_time))

    last = parsed()
    assert until(lambda: parsed() != last) is not None


def second_failure(slots, first, second, restart=False):
    """Seconds until somebody is told of a run that fails while the file is parsed after the callback of another."""
    with processor(slots):
        until_parsed()
        begun, ended = count("begun"), count("ended")
        fail(first)
        assert until(lambda: count("begun") == begun + 2) is not None
        assert count(first) == 1
        fail(second)
        assert until(lambda: not requests()) is not None
        assert count("ended") == ended + 1, "the machine is too slow: the file has been parsed already"
        if not restart:
            return until(lambda: count(second))
    with processor(slots):
        until_parsed()
        return until(lambda: count(second), 15)


def shown(seconds):
    return "never" if seconds is None else f"after {seconds:.0f} s"


two = second_failure(2, "run0", "run1")
one = second_failure(1, "run2", "run3")
lost = second_failure(2, "run4", "run5", restart=True)
print(f"two processes: {shown(two)}, one process: {shown(one)}, two and a restart: {shown(lost)}")
assert two is not None and two > 55
assert one is not None and one < 45
assert lost is None
assert requests() == 0
PY
airflow() { "$work/venv/bin/airflow" "$@" >>"$work/log" 2>&1; }
airflow db migrate
airflow dags reserialize
for number in 0 1 2 3 4 5; do airflow dags trigger finding --run-id "run$number"; done
"$work/venv/bin/python" -W ignore "$work/run.py"
