#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0: every read of a Variable or Connection makes a new Secrets Manager client.
#
# The backend keeps its client in a cached property, but the SDK makes the list of backends anew for each read, so that
# the cache serves once. A client (a session, and botocore's descriptions from disk) costs many times the CPU of the
# call itself, and on AWS a TLS connection of its own. What reads ten Variables pays ten times; the same name again
# is another client and another call.
#
# Seen: 5 reads of two names, 5 clients, 5 calls.
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

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
export AIRFLOW__SECRETS__BACKEND=airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend
export ENDPOINT=http://127.0.0.1:$port
export AIRFLOW__SECRETS__BACKEND_KWARGS='{"region_name": "eu-west-1", "endpoint_url": "'"$ENDPOINT"'"}'
"$work/venv/bin/python" -W ignore - <<'PY'
import os

import boto3
import botocore.session
from airflow.sdk import Variable

secrets = boto3.client("secretsmanager", endpoint_url=os.environ["ENDPOINT"], region_name="eu-west-1")
for name in ("limit", "region"):
    secrets.create_secret(Name=f"airflow/variables/{name}", SecretString="5")

clients = calls = 0
create_client = botocore.session.Session.create_client


def counting(self, *args, **kwargs):
    global clients
    clients += 1
    client = create_client(self, *args, **kwargs)
    client.meta.events.register("before-send", count_call)
    return client


def count_call(**_):
    global calls
    calls += 1


botocore.session.Session.create_client = counting
assert {Variable.get(name) for name in ("limit", "limit", "limit", "region", "region")} == {"5"}
print(f"5 reads of two names, {clients} clients, {calls} calls")
assert (clients, calls) == (5, 5)
PY
