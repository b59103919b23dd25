#!/usr/bin/env bash
# common.sql provider 2.1.0: two partition clauses of a SQL check are joined by AND without parentheses.
#
# SQLColumnCheckOperator and SQLTableCheckOperator take a partition_clause for all checks and one for each check, "to be
# used in the WHERE clause". Where both are given they are written one after the other with AND between them. If one has
# an OR, SQL reads something else: region = 'EU' OR region = 'UK', and the check's day = '2026-03-09', is all days of EU
# and that day of UK. The check then fails for old rows that it should not see, or, as COUNT and SUM do, passes by them
# for a day without rows. Each clause alone is right. What helps is to write the parentheses oneself.
#
# Seen, a day without rows, older rows there: "some rows" passes, with parentheses it fails; a day of good rows, an old
# one NULL: "no NULL" fails, with parentheses it passes.
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

from airflow.providers.common.sql.operators.sql import SQLColumnCheckOperator, SQLTableCheckOperator
from airflow.sdk.exceptions import AirflowException

OF_BOTH = "region = 'EU' OR region = 'UK'"
with sqlite3.connect(f"{os.environ['AIRFLOW_HOME']}/orders.db") as database:
    database.execute("create table orders (day text, region text, amount integer)")
    rows = [("2026-03-02", "EU", None), ("2026-03-02", "EU", 1), ("2026-03-09", "EU", 1), ("2026-03-09", "UK", 1)]
    database.executemany("insert into orders values (?, ?, ?)", rows)


def passes(operator):
    try:
        operator.execute({})
    except AirflowException:
        return False
    return True


def some_rows(day, clause):
    check = {"check_statement": "COUNT(*) > 0", "partition_clause": f"day = '{day}'"}
    where = {"task_id": "check", "conn_id": "file", "table": "orders", "partition_clause": clause}
    return passes(SQLTableCheckOperator(checks={"some_rows": check}, **where))


def no_null(day, clause):
    check = {"equal_to": 0, "partition_clause": f"day = '{day}'"}
    where = {"task_id": "check", "conn_id": "file", "table": "orders", "partition_clause": clause}
    return passes(SQLColumnCheckOperator(column_mapping={"amount": {"null_check": check}}, **where))


empty = some_rows("2026-03-10", OF_BOTH), some_rows("2026-03-10", f"({OF_BOTH})")
good = no_null("2026-03-09", OF_BOTH), no_null("2026-03-09", f"({OF_BOTH})")
print("some rows, on a day without:", empty, "no NULL, on a good day:", good)
assert empty == (True, False)
assert good == (False, True)
PY
