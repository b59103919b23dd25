#!/usr/bin/env bash
# Airflow 3.3.1: a backfill does not ask a timetable for the ids of its runs.
#
# Timetable.generate_run_id() names the runs of a DAG, for example by the business day that they are about. A backfill
# of the same DAG names its runs itself: "backfill__" and run_after as it is. (Backfills by partition do ask the
# timetable.) So whoever looks a day up by the run's id finds it, unless it was backfilled; and in UTC an evening of New
# York is the next day. What helps is to return run_after in the zone that the id is to show.
#
# Seen: a run that was triggered on 29 November: day_2026-11-29; the backfilled run of 3 March, 20:30 in New York:
# backfill__2026-03-04T01:30:00+00:00.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
mkdir "$work/dags" "$work/plugins"
cat >"$work/plugins/named.py" <<'PY'
from zoneinfo import ZoneInfo

from airflow.plugins_manager import AirflowPlugin
from airflow.timetables.trigger import CronTriggerTimetable


class Named(CronTriggerTimetable):
    def generate_run_id(self, *, run_after, **_):
        return f"day_{run_after.astimezone(ZoneInfo('America/New_York')):%Y-%m-%d}"


class Plugin(AirflowPlugin):
    name = "named"
    timetables = [Named]
PY
cat >"$work/dags/finding.py" <<'PY'
import pendulum
from airflow.sdk import dag, task
from named import Named


@dag(schedule=Named("30 20 * * *", timezone="America/New_York"), start_date=pendulum.datetime(2026, 1, 1))
def daily():
    @task
    def archive():
        pass

    archive()


daily()
PY
airflow() { "$work/venv/bin/airflow" "$@" 2>>"$work/log"; }
airflow db migrate >/dev/null
airflow dags reserialize >/dev/null
airflow dags trigger daily >/dev/null
airflow backfill create --dag-id daily --from-date 2026-03-04T01:30:00+00:00 --to-date 2026-03-04T01:30:00+00:00 >/dev/null
airflow dags list-runs daily -o json >"$work/runs"
"$work/venv/bin/python" - "$work/runs" <<'PY'
import json
import sys

with open(sys.argv[1]) as file:
    backfilled, triggered = sorted(run["run_id"] for run in json.load(file))
print(f"triggered: {triggered}, backfilled: {backfilled}")
assert triggered.startswith("day_")
assert backfilled == "backfill__2026-03-04T01:30:00+00:00"
PY
