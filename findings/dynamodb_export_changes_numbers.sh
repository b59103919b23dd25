#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0: DynamoDBToS3Operator writes other numbers than the table has.
#
# DynamoDB keeps 38 digits, and boto3 reads all of them, as Decimal. The operator "replicates records from a DynamoDB
# table to S3" by json.dumps with each number made a float: 16 digits are left, a count of 7 is 7.0, and two items whose
# numeric keys are next to each other have the same key in the file. Nothing is logged. What keeps the digits is a
# process_func of one's own, for example json.dumps(item, default=str).
#
# Seen, against MiniStack 1.5.33: ids 9007199254740992 and ...993 are both exported as 9007199254740992.0, the amount
# 12345678901234567.89 as 1.2345678901234568e+16; with process_func all digits are there.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-amazon==9.34.0
python3.12 -m venv "$work/emulator"
"$work/emulator/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt ministack==1.5.33
port=$(python3.12 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
BIND_HOST=127.0.0.1 GATEWAY_PORT=$port IOT_MTLS_ENABLED=0 "$work/emulator/bin/ministack" >"$work/emulator.log" 2>&1 &
echo $! >"$work/pid"
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$(cat "$work/pid")" && sleep 0.2; done

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
export AIRFLOW_CONN_AWS_DEFAULT='{"conn_type": "aws", "login": "test", "password": "test",
  "extra": {"region_name": "eu-west-1", "endpoint_url": "http://127.0.0.1:'"$port"'"}}'
"$work/venv/bin/python" -W ignore - <<'PY'
import json
from decimal import Decimal

from airflow.providers.amazon.aws.hooks.dynamodb import DynamoDBHook
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.transfers.dynamodb_to_s3 import DynamoDBToS3Operator

database, files = DynamoDBHook(), S3Hook()
files.create_bucket("exports", region_name="eu-west-1")
database.conn.create_table(
    TableName="orders",
    BillingMode="PAY_PER_REQUEST",
    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}],
    KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
)
amount = Decimal("12345678901234567.89")
for number in (9007199254740992, 9007199254740993):
    database.put_item("orders", {"id": number, "count": 7, "amount": amount})


def exported(prefix, **how):
    """Each item of the export, with its numbers as the file has them."""
    where = {"s3_bucket_name": "exports", "s3_key_prefix": prefix}
    DynamoDBToS3Operator(task_id="export", dynamodb_table_name="orders", **where, **how).execute({})
    lines = [line for key in files.list_keys("exports", prefix) for line in files.read_key(key, "exports").splitlines()]
    items = [json.loads(line, parse_float=str, parse_int=str) for line in lines]
    return sorted((item["id"], item["count"], item["amount"]) for item in items)


default = exported("default/")
texts = exported("texts/", process_func=lambda item: (json.dumps(item, default=str) + "\n").encode())
print("default:", *default, "process_func:", *texts, sep="\n")
assert default == [("9007199254740992.0", "7.0", "1.2345678901234568e+16")] * 2
assert texts == [(str(number), "7", str(amount)) for number in (9007199254740992, 9007199254740993)]
PY
