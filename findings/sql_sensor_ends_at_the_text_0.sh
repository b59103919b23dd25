#!/usr/bin/env bash
# common.sql provider 2.1.0: SqlSensor is done at the text '0', for which it is documented to wait.
#
# "This will keep trying until ... the first cell is not either 0, '0', '', or None", says the class. It asks for the
# cell's truth alone, and a text of one character is true. Flags are text in many tables, CHAR(1) of '0' and '1': the
# sensor for "loaded" ends at its first look, whether the load is done or not. success=lambda cell: cell == "1" says
# what is meant.
#
# Seen: 0, '' and NULL: waits; '0', 'false' and 'N': done; 0 and '0' with success: waits.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-common-sql==2.1.0 apache-airflow-providers-sqlite==4.3.3

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
export AIRFLOW_CONN_FILE='{"conn_type": "sqlite", "host": "'"$work"'/orders.db"}'
"$work/venv/bin/python" -W ignore - <<'PY'
from airflow.providers.common.sql.sensors.sql import SqlSensor


def done(cell, **options):
    return SqlSensor(task_id="wait", conn_id="file", sql=f"select {cell}", **options).poke({})


waits = {cell: done(cell) for cell in ("0", "''", "NULL")}
ends = {cell: done(cell) for cell in ("'0'", "'false'", "'N'")}
told = {cell: done(cell, success=lambda found: str(found) == "1") for cell in ("0", "'0'")}
documented = "either ``0``, ``'0'``, ``''``, or ``None``" in " ".join(SqlSensor.__doc__.split())
print("by itself:", waits, ends, "with success:", told, "documented:", documented, sep="\n")
assert documented
assert not any([*waits.values(), *told.values()])
assert all(ends.values())
PY
