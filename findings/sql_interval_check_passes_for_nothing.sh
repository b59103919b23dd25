#!/usr/bin/env bash
# common.sql provider 2.1.0: SQLIntervalCheckOperator fails for half the rows, and passes for none.
#
# The operator compares a day's metrics with those of a week before: "COUNT(*)": 1.5 means that neither day may have
# more than one and a half times the rows of the other. ignore_zero, True by default, passes each metric that is 0 on
# one of the two days. So the check notices a load that lost half of its rows, and not the one that did not run: zero
# rows are a success, with "All tests have passed" in the log. A sum of a day without rows is NULL, which is a TypeError
# and so retried in spite of retry_on_failure=False. What helps is ignore_zero=False, and COALESCE around a sum.
#
# Seen, a week before 10 rows: today 10 and 8 pass, 5 fails, 0 passes, with ignore_zero=False 0 fails; SUM of none:
# TypeError.
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
import os
import sqlite3

from airflow.providers.common.sql.operators.sql import SQLIntervalCheckOperator
from airflow.sdk.exceptions import AirflowException

TODAY, WEEK_BEFORE = "2026-03-09", "2026-03-02"
file = f"{os.environ['AIRFLOW_HOME']}/orders.db"


def check(rows, metric="COUNT(*)", **options):
    """The check's end, with so many rows of today."""
    with sqlite3.connect(file) as database:
        database.execute("drop table if exists orders")
        database.execute("create table orders (ds text, amount integer)")
        days = [WEEK_BEFORE] * 10 + [TODAY] * rows
        database.executemany("insert into orders values (?, 1)", [(day,) for day in days])
    how = {"task_id": "check", "conn_id": "file", "table": "orders", **options}
    operator = SQLIntervalCheckOperator(metrics_thresholds={metric: 1.5}, **how)
    # What rendering the templates does, for a run of today.
    operator.sql1 = operator.sql1.replace("{{ ds }}", TODAY)
    operator.sql2 = operator.sql2.replace("{{ macros.ds_add(ds, -7) }}", WEEK_BEFORE)
    try:
        operator.execute({})
    except AirflowException:
        return "failed"
    except TypeError:
        return "TypeError"
    return "passed"


default = {rows: check(rows) for rows in (10, 8, 5, 0)}
strict = check(0, ignore_zero=False)
of_none = check(0, metric="SUM(amount)")
print("rows today:", default, "0 with ignore_zero=False:", strict, "SUM of none:", of_none)
assert default == {10: "passed", 8: "passed", 5: "failed", 0: "passed"}
assert (strict, of_none) == ("failed", "TypeError")
PY
