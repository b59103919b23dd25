#!/usr/bin/env bash
# Airflow 3.3.1: a schedule in EventBridge's six fields is accepted, and runs the DAG sixty times in a minute.
#
# "0 6 * * ? *" is AWS's way to say "daily at 06:00": the sixth field is the year, and one of the two day fields has to
# be "?". Airflow accepts the text as it stands. Its sixth field is the second, at the end and not at the front as
# elsewhere, so "*" means each second of 06:00. Validation passes, the DAG is parsed without a warning, and the text
# that describes the schedule is just empty. With catchup off there still are 60 runs a day instead of one.
#
# Seen: the first runs after midnight are 06:00:00, 06:00:01, 06:00:02; the same without the last field: daily.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/python" -W ignore - <<'PY'
from datetime import UTC, datetime

from airflow.timetables.base import TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable


def runs(expression):
    timetable = CronTriggerTimetable(expression, timezone="UTC")
    timetable.validate()
    since = TimeRestriction(datetime(2026, 3, 1, tzinfo=UTC), None, True)
    last, found = None, []
    for _ in range(61):
        info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=since)
        found.append(info.run_after.strftime("%d %H:%M:%S"))
        last = info.data_interval
    return found, timetable.description


aws, description = runs("0 6 * * ? *")
print(aws[:3], "...", aws[59:], "description:", repr(description))
assert aws[:3] == ["01 06:00:00", "01 06:00:01", "01 06:00:02"]
assert aws[59:] == ["01 06:00:59", "02 06:00:00"]
assert description == ""
daily, description = runs("0 6 * * ?")
print(daily[:3], "description:", repr(description))
assert daily[:3] == ["01 06:00:00", "02 06:00:00", "03 06:00:00"]
PY
