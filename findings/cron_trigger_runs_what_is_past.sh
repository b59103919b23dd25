#!/usr/bin/env bash
# Airflow 3.3.1: a new DAG on CronTriggerTimetable runs at once for a time that is past, also with
# run_immediately=False.
#
# False, the default, is documented as "wait to run until the next scheduled time in the future", and None as a run of
# the last time if less than a tenth of the period is over since. The code asks for True and for a timedelta, and treats
# False as None: a weekly DAG that is deployed within 17 hours after its hour runs at once. If the DAG has a start_date,
# as most have, the option is not looked at: any DAG without catch-up runs for the last time, however long ago. What
# waits is a timedelta of zero, without a start_date.
#
# Seen, for a weekly DAG without runs, 16 hours and 3 days after its hour: False past and future, None the same, True
# past and past, timedelta(0) future and future; with a start_date all are past.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/python" -W ignore - <<'PY'
from datetime import UTC, timedelta

import pendulum
from airflow.timetables.base import TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable

now = pendulum.now(UTC)
years_ago = pendulum.datetime(2020, 1, 1)


def first_run(since_its_hour, start_date, run_immediately):
    hour = now - since_its_hour
    cron = f"{hour.minute} {hour.hour} * * {hour.isoweekday() % 7}"
    timetable = CronTriggerTimetable(cron, timezone="UTC", run_immediately=run_immediately)
    restriction = TimeRestriction(earliest=start_date, latest=None, catchup=False)
    run = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    return "future" if run.run_after > now else "past"


def first_runs(start_date):
    values = (False, None, True, timedelta(0))
    return {str(value): [first_run(since, start_date, value) for since in (timedelta(hours=16), timedelta(days=3))]
            for value in values}


without, started = first_runs(None), first_runs(years_ago)
print("without start_date:", without, "with start_date:", started, sep="\n")
assert without["False"] == without["None"] == ["past", "future"]
assert without["True"] == ["past", "past"]
assert without["0:00:00"] == ["future", "future"]
assert all(runs == ["past", "past"] for runs in started.values())
PY
