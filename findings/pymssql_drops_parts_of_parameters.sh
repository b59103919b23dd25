#!/usr/bin/env bash
# pymssql 2.3.13: surplus parameters are ignored, and a time's microseconds or zone are lost, without an error.
#
# pymssql writes parameters into the statement itself. Too few of them are refused; what is over is not looked at, so a
# WHERE whose second placeholder was deleted still runs with two values. (Other drivers refuse it.) A datetime without a
# zone is cut, not rounded, to milliseconds, although a column of datetime2 keeps more: "changed after the last row that
# I saw" finds that row again, and "changed at" does not find it. The same datetime with a zone keeps its microseconds.
# A time keeps its microseconds and loses its zone, so that 09:00+05:30 is 09:00. What helps for datetime2 is to pass
# the value as text in ISO form.
#
# Seen: id = 1 with (1, 2); '2026-03-04 05:06:07.999' for .999999, all six digits with a zone; '05:06:07.999999' for a
# time at +05:30.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pymssql==2.3.13

"$work/venv/bin/python" - <<'PY'
from datetime import datetime, timedelta, timezone

from pymssql import _mssql

zone = timezone(timedelta(hours=5, minutes=30))
when = datetime(2026, 3, 4, 5, 6, 7, 999999)


def sent(statement, *parameters):
    """The text that execute() sends."""
    try:
        return _mssql.substitute_params(statement, parameters).decode()
    except ValueError as error:
        return f"ValueError: {error}"


surplus, missing = sent("id = %s", 1, 2), sent("id = %s or id = %s", 1)
without_zone, with_zone = sent("%s", when), sent("%s", when.replace(tzinfo=zone))
time, time_with_zone = sent("%s", when.time()), sent("%s", when.timetz().replace(tzinfo=zone))
print("surplus:", surplus, "missing:", missing, sep="\n")
print("datetime:", without_zone, with_zone, "time:", time, time_with_zone, sep="\n")
assert surplus == "id = 1"
assert missing.startswith("ValueError: ")
assert without_zone == "'2026-03-04 05:06:07.999'"
assert with_zone == "'2026-03-04 05:06:07.999999+05:30'"
assert time == time_with_zone == "'05:06:07.999999'"
PY
