#!/usr/bin/env bash
# Airflow 3.3.1: MultipleCronTriggerTimetable with an interval of a day makes only one run a day.
#
# The timetable takes several cron expressions, and an interval that gives each run the data of, say, the last day. With
# catchup off, the default of Airflow 3, it has to choose the earliest of what its expressions want next, or the latest
# of what is overdue. It compares logical dates with the clock. With an interval the logical date is the begin of the
# data, so in the evening the runs of tomorrow morning and of tomorrow evening both count as overdue, the later one is
# taken, and the morning is passed over, each day. The DAG's description names both times, and `airflow dags
# next-execution`, which computes with catchup on, lists both.
#
# Seen, for 06:00 and 18:00, five days: no interval: 10 runs, at both hours; an interval of a day: 5 runs, all at 18:00;
# with catchup: 10 runs. Listed: both hours.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  time-machine==3.6.0

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir "$work/dags"
cat >"$work/dags/finding.py" <<'PY'
from datetime import timedelta

from airflow.sdk import MultipleCronTriggerTimetable, dag, task

twice = MultipleCronTriggerTimetable("0 6 * * *", "0 18 * * *", timezone="UTC", interval=timedelta(days=1))


@dag(schedule=twice)
def finding():
    @task
    def work():
        pass

    work()


finding()
PY
airflow() { "$work/venv/bin/airflow" "$@" 2>>"$work/log"; }
airflow db migrate >>"$work/log"
airflow dags reserialize >>"$work/log"
airflow dags next-execution finding --num-executions 4 --field run_after >"$work/listed"
"$work/venv/bin/python" -W ignore - <<'PY'
import os
import re
from datetime import timedelta
from pathlib import Path

import pendulum
import time_machine
from airflow.timetables.base import TimeRestriction
from airflow.timetables.trigger import MultipleCronTriggerTimetable


def hours(interval, catchup=False):
    """The hours of the runs of five days, if the scheduler makes each run in time."""
    timetable = MultipleCronTriggerTimetable("0 6 * * *", "0 18 * * *", timezone="UTC", interval=interval)
    start = pendulum.datetime(2026, 11, 1)
    restriction = TimeRestriction(earliest=start, latest=None, catchup=catchup)
    now, last, made = start.add(hours=12), None, []
    while True:
        with time_machine.travel(now, tick=False):
            run = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        if run.run_after > start.add(days=5):
            return made
        now, last = max(now, run.run_after.add(seconds=1)), run.data_interval
        made.append(run.run_after.hour)


listed = re.findall(r"(\d\d):00:00", Path(os.environ["AIRFLOW_HOME"], "listed").read_text())
none, day = hours(timedelta()), hours(timedelta(days=1))
caught = hours(timedelta(days=1), catchup=True)
print("no interval:", none, "a day:", day, "a day, catchup:", caught, "listed:", listed, sep="\n")
assert none == caught == [6, 18] * 5
assert day == [18] * 5
assert set(listed) == {"06", "18"}
PY
