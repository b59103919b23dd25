#!/usr/bin/env bash
# mssql provider 4.7.0, common.sql provider 2.1.0: insert_rows(replace=True) logs in to SQL Server again for each row.
#
# MERGE needs the primary key, which the dialect reads from the server and keeps in an lru_cache. The hook of SQL
# Server replaces common.sql's cached `dialect` by a property that makes a new one each time it is read, so the cache
# is always empty: for each row a new connection is opened, asked for the key and closed, beside the open transaction.
# A load of 10,000 rows means 10,000 logins and twice the statements, which the log shows at INFO, one by one.
# executemany=True asks once for each chunk of commit_every rows.
#
# Seen, for 100 rows: replace=True: 101 connections, 100 queries for the key; with executemany=True: 2 and 1; without
# replace: 1 and 0.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-microsoft-mssql==4.7.0 apache-airflow-providers-common-sql==2.1.0 pymssql==2.3.13

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
export AIRFLOW_CONN_DEX='{"conn_type": "mssql", "host": "db", "port": 1433, "login": "u", "password": "p"}'
"$work/venv/bin/python" -W ignore - <<'PY'
import pymssql
from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook

connections, statements = [], []


class Database:
    """Stands for the server: connection and cursor in one; a table's primary key is the column id."""

    autocommit_state = False
    description = (("name",),)
    rowcount = 1

    def execute(self, sql, parameters=None):
        statements.append(sql)

    executemany = execute

    def fetchall(self):
        return [("id",)]

    def cursor(self):
        return self

    def autocommit(self, on):
        pass

    def commit(self):
        pass

    def close(self):
        pass


def connect(**arguments):
    connections.append(arguments)
    return Database()


pymssql.connect = connect
rows = [(number, "name") for number in range(100)]


def load(**how):
    connections.clear()
    statements.clear()
    MsSqlHook(mssql_conn_id="dex").insert_rows("clients", rows, target_fields=["id", "name"], **how)
    return len(connections), sum("is_primary_key" in sql for sql in statements)


each, chunk, insert = load(replace=True), load(replace=True, executemany=True), load()
print("connections, queries for the key:", {"replace": each, "replace, executemany": chunk, "insert": insert})
assert each == (101, 100)
assert chunk == (2, 1)
assert insert == (1, 0)
PY
