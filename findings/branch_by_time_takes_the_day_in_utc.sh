#!/usr/bin/env bash
# Airflow 3.3.1, standard provider 1.17.0: BranchDateTimeOperator and BranchDayOfWeekOperator take the day in UTC.
#
# The hours of BranchDateTimeOperator are those of the DAG's zone, but the day that they are put on is the day in UTC.
# From 19:00 or 20:00 in New York, until midnight, it is tomorrow there: the window "18:00 to 23:00" is that of the next
# evening, and the operator takes the other branch, each evening. In Tokyo it is the hours before 09:00. A window that
# goes past midnight ends at midnight, whatever the zone. BranchDayOfWeekOperator takes the weekday in the DAG's zone by
# the clock, but in UTC with use_task_logical_date, which is meant for backfills: Friday evening's run is a Saturday.
# DayOfWeekSensor always takes it in UTC.
#
# Seen, by logical date, in New York: 18:00 to 23:00 at 18:30 inside, at 20:30 outside; in UTC inside; 22:00 to 02:00 at
# 01:00 in UTC outside. Friday, 20:30 in New York, "Friday?": by the clock yes, by logical date no, the sensor no.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-standard==1.17.0 time-machine==3.6.0

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/python" -W ignore - <<'PY'
from datetime import time

import pendulum
import time_machine
from airflow.providers.standard.operators.datetime import BranchDateTimeOperator
from airflow.providers.standard.operators.weekday import BranchDayOfWeekOperator
from airflow.providers.standard.sensors.weekday import DayOfWeekSensor
from airflow.sdk import DAG

FOLLOW = {"follow_task_ids_if_true": "inside", "follow_task_ids_if_false": "outside"}
ZONE = "America/New_York"


def moment(hour, minute=0, zone=ZONE):
    """On a Friday; a run's logical date is in UTC."""
    return pendulum.datetime(2026, 3, 6, hour, minute, tz=zone).in_timezone("UTC")


def by_time(lower, upper, when, zone=ZONE):
    with DAG("by_time", start_date=pendulum.datetime(2026, 1, 1, tz=zone)):
        hours = {"target_lower": time(lower), "target_upper": time(upper)}
        branch = BranchDateTimeOperator(task_id="branch", use_task_logical_date=True, **hours, **FOLLOW)
    return branch.choose_branch({"logical_date": when})


def is_friday(when):
    with DAG("by_day", start_date=pendulum.datetime(2026, 1, 1, tz=ZONE)):
        day = {"week_day": "Friday"}
        clock = BranchDayOfWeekOperator(task_id="clock", **day, **FOLLOW)
        date = BranchDayOfWeekOperator(task_id="date", use_task_logical_date=True, **day, **FOLLOW)
        sensor = DayOfWeekSensor(task_id="sensor", **day)
    with time_machine.travel(when, tick=False):
        return clock.choose_branch({}), date.choose_branch({"logical_date": when}), sensor.poke({})


early, evening = by_time(18, 23, moment(18, 30)), by_time(18, 23, moment(20, 30))
in_utc = by_time(18, 23, moment(20, 30, "UTC"), "UTC")
night = by_time(22, 2, moment(1, zone="UTC"), "UTC")
friday = is_friday(moment(20, 30))
print("18:30, 20:30:", early, evening, "20:30 UTC:", in_utc, "22 to 02, at 01:", night, "Friday:", friday)
assert (early, evening, in_utc, night) == ("inside", "outside", "inside", "outside")
assert friday == ("inside", "outside", False)
PY
