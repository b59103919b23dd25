#!/usr/bin/env bash
# common.sql provider 2.1.0: accept_none=True does not let an empty table pass SQLTableCheckOperator.
#
# "If True, an empty table (row count=0) will not trigger a failure." The operator looks for an answer without rows,
# but its query is an aggregate and always has one. For a check of each row (amount > 0) that row holds NULL, which is
# read as a boolean, so that the task fails with "'none' is not a boolean-like string value", with the option and
# without; as this is no AirflowException, retry_on_failure=False is void as well. The documentation's own check
# MIN(col) = 1 is just failed. A table that is filled passes both.
#
# Seen, for each check: filled passes; empty, whatever accept_none is: ValueError for amount > 0, failed for MIN.
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
from airflow.providers.common.sql.operators.sql import SQLTableCheckOperator
from airflow.providers.sqlite.hooks.sqlite import SqliteHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException

hook = SqliteHook(sqlite_conn_id="file")
hook.run("create table orders (amount integer)")


def result(statement, accept_none):
    checks = {"amounts": {"check_statement": statement}}
    operator = SQLTableCheckOperator(
        task_id="check", conn_id="file", table="orders", checks=checks, accept_none=accept_none, retry_on_failure=False
    )
    try:
        operator.execute({})
    except AirflowFailException:
        return "failed for good"
    except AirflowException:
        return "failed"
    except ValueError as error:
        return f"ValueError: {error}"
    return "passed"


def results(statement):
    return [result(statement, accept_none) for accept_none in (True, False)]


empty, empty_minimum = results("amount > 0"), results("MIN(amount) = 1")
hook.run("insert into orders values (1), (2)")
filled = results("amount > 0") + results("MIN(amount) = 1")
print("empty:", empty, empty_minimum, "filled:", filled, sep="\n")
assert empty == ["ValueError: 'none' is not a boolean-like string value"] * 2
assert empty_minimum == ["failed for good"] * 2
assert filled == ["passed"] * 4
PY
