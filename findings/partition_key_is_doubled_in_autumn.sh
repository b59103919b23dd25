#!/usr/bin/env bash
# Airflow 3.3.1: in autumn CronPartitionTimetable gives two hours the same partition key.
#
# The timetable makes a run for each partition and names the partition by its local time, "2026-11-01T01:00:00", without
# an offset. When the clocks go back that hour comes twice: there are two runs, two moments, and one key. The key is
# what tasks name their output by and what partitions of assets are matched by, so the second hour is written over the
# first, and each reader of "01:00" finds the second alone. In spring nothing is missing. The timetable itself reads
# such a key as one moment. What helps is a key_format with %z, which then has to be there from the first run on, or
# timezone="UTC".
#
# Seen, hourly in New York: keys of 1 November from 00:00 to 03:00: 5 runs, 4 keys; with %z 5 keys; of 8 March: 3 runs,
# 3 keys.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/python" -W ignore - <<'PY'
import pendulum
from airflow.timetables.base import TimeRestriction
from airflow.timetables.trigger import CronPartitionTimetable

ZONE = "America/New_York"


def runs(day, hours, **how):
    """Moment and key of each scheduled run of the day's first hours."""
    timetable = CronPartitionTimetable("0 * * * *", timezone=ZONE, **how)
    restriction = TimeRestriction(earliest=day, latest=day.set(hour=hours), catchup=True)
    found, last = [], None
    while last := timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=restriction):
        found.append((last.run_after.in_timezone("UTC").isoformat(), last.partition_key))
    return found


autumn, spring = pendulum.datetime(2026, 11, 1, tz=ZONE), pendulum.datetime(2026, 3, 8, tz=ZONE)
doubled, with_offset = runs(autumn, 3), runs(autumn, 3, key_format="%Y-%m-%dT%H:%M:%S%z")
in_spring = runs(spring, 3)
read = CronPartitionTimetable("0 * * * *", timezone=ZONE)._decode_partition_date("2026-11-01T01:00:00")
print("autumn:", *doubled, "with %z:", *with_offset, "spring:", *in_spring, "read as:", read, sep="\n")


def counted(found):
    return len({moment for moment, _ in found}), len({key for _, key in found})


assert [key for _, key in doubled].count("2026-11-01T01:00:00") == 2
assert counted(doubled) == (5, 4)
assert counted(with_offset) == (5, 5)
assert counted(in_spring) == (3, 3)
PY
