#!/usr/bin/env bash
# common.sql provider 2.1.0: SQLValueCheckOperator passes for numbers that differ, and for texts that only look alike.
#
# pass_value is made a text and, if Python can read that as a number, both sides are compared as floats of 53 bits. So
# a check that two ledgers have the same sum, or the same last id, passes from 9,007,199,254,740,992 on though they
# differ by one, and a sum of money of 16 digits though it differs by a cent. A text that Python reads as a number is
# one too, also with underscores: the period 2026_03 is found in 202603, the code 007 in 7, the batch 1e5 in 100000. A
# comparison in SQL itself, by SQLCheckOperator, is exact.
#
# Seen: all five pairs pass; a pair that differs by 2 and a text that is no number (A7 and 7) fail; SQLCheckOperator
# refuses the five.
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
from airflow.providers.common.sql.operators.sql import SQLCheckOperator, SQLValueCheckOperator
from airflow.sdk.exceptions import AirflowException


def passes(operator):
    try:
        operator.execute({})
    except AirflowException:
        return False
    return True


def value_check(found, expected):
    sql = f"select {found!r}"
    return passes(SQLValueCheckOperator(task_id="check", conn_id="file", sql=sql, pass_value=expected))


def check(found, expected):
    sql = f"select {found!r} = {expected!r}"
    return passes(SQLCheckOperator(task_id="check", conn_id="file", sql=sql))


# A sum with cents is a text here, as SQLite has no exact type for it; a Decimal of another database does the same.
alike = [(9007199254740993, 9007199254740992), ("90071992547409.93", "90071992547409.94")]
alike += [("202603", "2026_03"), ("7", "007"), ("100000", "1e5")]
others = [(9007199254740994, 9007199254740992), ("7", "A7")]
passed, failed = [[value_check(*pair) for pair in pairs] for pairs in (alike, others)]
in_sql = [check(*pair) for pair in alike]
print("alike:", dict(zip(alike, passed)), "others:", dict(zip(others, failed)), "alike, in SQL:", in_sql, sep="\n")
assert passed == [True] * 5
assert failed == [False] * 2
assert in_sql == [False] * 5
PY
