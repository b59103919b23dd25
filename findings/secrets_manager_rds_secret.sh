#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0, mssql provider 4.7.0: a secret in the format of RDS loses its database's name.
#
# Secrets Manager stores the login of a database with the keys engine, host, port, username, password and dbname; its
# rotation functions need them. SecretsManagerBackend reads such a secret as an Airflow connection, but does not know
# "dbname": the connection has no schema, and MsSqlHook connects to the login's default database, mostly master. And
# "engine" becomes the connection's type: "sqlserver", which Airflow has no hook for, so get_hook() fails while
# MsSqlHook itself works. Keys that no list of words holds, such as charset, are dropped silently. A secret that also
# has "database" is read right and still rotates. Of two words for one field the first in the JSON text wins.
#
# Seen: type sqlserver, schema None; 'Unknown hook type "sqlserver"'; of {"key": ..., "password": ...} the key.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-amazon==9.34.0 apache-airflow-providers-microsoft-mssql==4.7.0
python3.12 -m venv "$work/emulator"
"$work/emulator/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt ministack==1.5.33
port=$(python3.12 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
BIND_HOST=127.0.0.1 GATEWAY_PORT=$port IOT_MTLS_ENABLED=0 "$work/emulator/bin/ministack" >"$work/emulator.log" 2>&1 &
echo $! >"$work/pid"
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$(cat "$work/pid")" && sleep 0.2; done

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
export AIRFLOW__SECRETS__BACKEND=airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend
export ENDPOINT=http://127.0.0.1:$port
export AIRFLOW__SECRETS__BACKEND_KWARGS='{"region_name": "eu-west-1", "endpoint_url": "'"$ENDPOINT"'"}'
"$work/venv/bin/python" -W ignore - <<'PY'
import json
import os

import boto3
from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from airflow.sdk import BaseHook

secrets = boto3.client("secretsmanager", endpoint_url=os.environ["ENDPOINT"], region_name="eu-west-1")
rds = {"engine": "sqlserver", "host": "db", "port": 1433, "username": "app", "password": "made-up", "dbname": "orders"}


def connection(name, secret):
    secrets.create_secret(Name=f"airflow/connections/{name}", SecretString=json.dumps(secret))
    return BaseHook.get_connection(name)


read = connection("rds", rds)
print("type, schema, login, extra:", read.conn_type, read.schema, read.login, read.extra)
assert (read.conn_type, read.schema, read.login) == ("sqlserver", None, "app")
uri = MsSqlHook(mssql_conn_id="rds").get_uri()
print("ends in the port, no database:", uri.endswith("@db:1433"))
assert uri.endswith("@db:1433")
try:
    read.get_hook()
except Exception as error:
    print(error)
    assert str(error) == 'Unknown hook type "sqlserver"'
else:
    raise AssertionError("there is a hook for sqlserver")

both = connection("both", {**rds, "database": "orders", "charset": "UTF-8"})
print("with database and charset:", both.schema, both.extra)
assert (both.schema, both.extra) == ("orders", None)

first = connection("order", {"conn_type": "mssql", "host": "db", "key": "first", "password": "second"})
print("key before password:", first.password)
assert first.password == "first"
PY
