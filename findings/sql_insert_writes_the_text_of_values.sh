#!/usr/bin/env bash
# common.sql provider 2.1.0, sqlite provider 4.3.3: insert_rows inserts the text that Python prints for a value.
#
# insert_rows, and with it GenericTransfer and SQLInsertRowsOperator, hands each value to the driver as str(value),
# unless the hook of the database has a way of its own, as that of PostgreSQL has; those of SQLite and SQL Server have
# none. So a driver that could send the value never sees it: the two bytes 00 FF become the eleven characters
# b'\x00\xff', a dict or a list becomes Python and not JSON (True, None, single quotes), and a flag the word "True".
# Where the column takes text nothing is raised, and a copy of a table differs from the table. What helps is to convert
# such values before, or the cursor's own executemany.
#
# Seen: b"\x00\xff" as text b'\x00\xff', {"paid": True} as {'paid': True}, True as "True"; by the driver b"\x00\xff" and
# 1, a dict refused.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-common-sql==2.1.0 apache-airflow-providers-sqlite==4.3.3 \
  apache-airflow-providers-microsoft-mssql==4.7.0 apache-airflow-providers-postgres==7.0.1

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
export AIRFLOW_CONN_FILE='{"conn_type": "sqlite", "host": "'"$work"'/orders.db"}'
"$work/venv/bin/python" -W ignore - <<'PY'
import sqlite3

from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.providers.sqlite.hooks.sqlite import SqliteHook

VALUES = {"content": b"\x00\xff", "detail": {"paid": True, "note": None}, "paid": True}
hook = SqliteHook(sqlite_conn_id="file")


def stored(insert, column):
    """What the column holds, and as which type, or that the driver refused the value."""
    hook.run(["drop table if exists orders", f"create table orders ({column})"])
    try:
        insert(VALUES[column])
    except sqlite3.Error as error:
        return type(error).__name__
    return hook.get_first(f"select {column}, typeof({column}) from orders")


def by_driver(value):
    with hook.get_conn() as connection:
        connection.execute("insert into orders values (?)", (value,))


by_hook = {name: stored(lambda value: hook.insert_rows("orders", [(value,)]), name) for name in VALUES}
bare = {name: stored(by_driver, name) for name in VALUES}
own = {each.__name__: "_serialize_cell" in vars(each) for each in (SqliteHook, MsSqlHook, PostgresHook, DbApiHook)}
print("hook:", by_hook, "driver:", bare, "a way of its own:", own, sep="\n")
assert by_hook == {
    "content": ("b'\\x00\\xff'", "text"),
    "detail": ("{'paid': True, 'note': None}", "text"),
    "paid": ("True", "text"),
}
assert bare["content"] == (b"\x00\xff", "blob")
assert bare["paid"] == (1, "integer")
assert bare["detail"] in ("ProgrammingError", "InterfaceError")
assert own == {"SqliteHook": False, "MsSqlHook": False, "PostgresHook": True, "DbApiHook": True}
PY
