#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0, pandas 3.0.5: SqlToS3Operator writes other ids than the table has, and leaves
# rows out.
#
# The operator reads the query into pandas. One NULL in a column of whole numbers makes it one of floats of 53 bits; the
# operator then turns what looks whole into whole numbers again, so that a BIGINT beyond 9,007,199,254,740,992 is
# written as another id, and no point shows it. With groupby_kwargs, which makes a file for each group, rows whose group
# is NULL are in no file, as pandas drops them, and the task is a success. A group named 0, and the first part of
# max_rows_per_file, get no suffix: the parts are day.csv, day_1.csv, day_2.csv, so that a reader of day_*.csv misses
# one. What helps: a CAST to text in the query, and "dropna": False, which makes a file "nan".
#
# Seen: ids ...993, NULL, ...995 written as ...992, "", ...996, with a CAST as they are; of five rows in groups a, b and
# NULL four, with dropna five; five rows by two: day.csv, day_1.csv, day_2.csv; by a flag: day.csv, day_1.csv.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-amazon==9.34.0 apache-airflow-providers-sqlite==4.3.3 pandas==3.0.5
python3.12 -m venv "$work/emulator"
"$work/emulator/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt ministack==1.5.33
port=$(python3.12 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
BIND_HOST=127.0.0.1 GATEWAY_PORT=$port IOT_MTLS_ENABLED=0 "$work/emulator/bin/ministack" >"$work/emulator.log" 2>&1 &
echo $! >"$work/pid"
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$(cat "$work/pid")" && sleep 0.2; done

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
export AIRFLOW_CONN_AWS_DEFAULT='{"conn_type": "aws", "login": "test", "password": "test",
  "extra": {"region_name": "eu-west-1", "endpoint_url": "http://127.0.0.1:'"$port"'"}}'
export AIRFLOW_CONN_FILE='{"conn_type": "sqlite", "host": "'"$work"'/orders.db"}'
"$work/venv/bin/python" -W ignore - <<'PY'
import os
import sqlite3

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.transfers.sql_to_s3 import SqlToS3Operator

IDS = [9007199254740993, None, 9007199254740995]
GROUPS = ["a", "a", "b", "b", None]
with sqlite3.connect(f"{os.environ['AIRFLOW_HOME']}/orders.db") as database:
    database.execute("create table ids (id bigint)")
    database.executemany("insert into ids values (?)", [(number,) for number in IDS])
    database.execute("create table rows (number integer, team text)")
    database.executemany("insert into rows values (?, ?)", list(enumerate(GROUPS)))
files = S3Hook()
files.create_bucket("exports", region_name="eu-west-1")


def exported(name, query, **how):
    """The lines of each file, without the columns' names."""
    where = {"s3_bucket": "exports", "s3_key": f"{name}/day.csv", "sql_conn_id": "file"}
    SqlToS3Operator(task_id="export", query=query, **where, **how).execute({})
    keys = files.list_keys("exports", f"{name}/")
    return {key.partition("/")[2]: files.read_key(key, "exports").splitlines()[1:] for key in keys}


plain = {"df_kwargs": {"index": False}}
ids = exported("ids", "select id from ids", **plain)
texts = exported("texts", "select cast(id as text) id from ids", **plain)
groups = exported("groups", "select * from rows", groupby_kwargs={"by": "team"}, **plain)
with_null = exported("with_null", "select * from rows", groupby_kwargs={"by": "team", "dropna": False}, **plain)
parts = exported("parts", "select * from rows", max_rows_per_file=2, **plain)
flags = exported("flags", "select number, number > 2 late from rows", groupby_kwargs={"by": "late"}, **plain)
print("ids:", ids, "texts:", texts, "groups:", groups, "with NULL:", with_null, sep="\n")
print("parts:", parts, "flags:", flags, sep="\n")
assert ids == {"day.csv": ["9007199254740992", '""', "9007199254740996"]}
assert texts == {"day.csv": ["9007199254740993", '""', "9007199254740995"]}
assert groups == {"day_a.csv": ["0,a", "1,a"], "day_b.csv": ["2,b", "3,b"]}
assert with_null == {**groups, "day_nan.csv": ["4,"]}
assert [len(lines) for lines in parts.values()] == [2, 2, 1]
assert list(parts) == ["day.csv", "day_1.csv", "day_2.csv"]
assert list(flags) == ["day.csv", "day_1.csv"]
PY
