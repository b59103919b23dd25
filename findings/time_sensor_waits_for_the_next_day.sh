#!/usr/bin/env bash
# Airflow 3.3.1, standard provider 1.17.0: TimeSensor waits for its time on the day on which the file is parsed.
#
# TimeSensor fixes its moment when it is constructed, and each start of a task parses the DAG's file and constructs it
# again. In mode "reschedule" each poke is a start: a sensor for 23:59:30 that looks at 23:59 looks again at midnight,
# and then waits for 23:59:30 of the new day, which it misses in the same way; it never ends but by its time-out. So
# does a retry after midnight of a sensor whose worker was lost before it: what was due minutes ago is due tomorrow.
# With start_from_trigger=True the moment is in the serialized DAG, too, which so is a new version of the DAG each day.
#
# Seen, with the clock set, at 23:59:00 and a minute later, for two nights: the moment is 30 seconds, then a day less 30
# seconds away; never reached. One in mode "poke", constructed once, has reached it. The serialized DAGs of two days are
# alike, with start_from_trigger they differ.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-standard==1.17.0 time-machine==3.6.0

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/python" -W ignore - 2>"$work/log" <<'PY'
from datetime import datetime, time, timedelta

import time_machine
from airflow.models.serialized_dag import SerializedDagModel
from airflow.providers.standard.sensors.time import TimeSensor
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization


def parse(**options):
    """The DAG as a worker, or the DAG processor, makes it from its file."""
    with DAG("finding", schedule=None) as dag:
        TimeSensor(task_id="wait", target_time=time(23, 59, 30), **options)
    return dag


def sensor(**options):
    return parse(**options).get_task("wait")


evening = datetime.fromisoformat("2026-03-01T23:59:00Z")
minute, night = timedelta(minutes=1), timedelta(days=1)
looks = []
for moment in (evening, evening + minute, evening + night, evening + night + minute):
    with time_machine.travel(moment, tick=False):
        started = sensor(mode="reschedule")
        looks.append(((started.target_datetime - moment).as_timedelta(), started.poke({})))
with time_machine.travel(evening, tick=False):
    once = sensor(mode="poke")
with time_machine.travel(evening + minute, tick=False):
    in_one_process = once.poke({})


def version(moment, **options):
    with time_machine.travel(moment, tick=False):
        return SerializedDagModel.hash(DagSerialization.to_dict(parse(**options)))


deferred = [version(evening + days * night, deferrable=True) for days in range(2)]
from_trigger = [version(evening + days * night, deferrable=True, start_from_trigger=True) for days in range(2)]
print("reschedule, time to go and whether done:", *[(str(left), done) for left, done in looks], sep="\n")
print("in one process:", in_one_process, "deferred:", deferred, "from the trigger:", from_trigger)
half = timedelta(seconds=30)
assert looks == [(half, False), (night - half, False)] * 2
assert in_one_process is True
assert len(set(deferred)) == 1
assert len(set(from_trigger)) == 2
PY
