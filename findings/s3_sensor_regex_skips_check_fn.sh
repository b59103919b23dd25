#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0: S3KeySensor with use_regex=True never calls check_fn.
#
# The sensor takes check_fn beside each way of naming keys, and refuses no combination. With a wildcard or an exact key
# the function decides; with a regular expression the sensor succeeds at the first key that matches, and the function is
# not called. So "wait until the file is complete" becomes "wait until there is a file", and the task is green. In
# deferrable mode it is the same when the key is there already, as the first look is this very method.
#
# Seen: wildcard False after one call of check_fn, exact key False after one call, use_regex True after none. An exact
# key also hands check_fn {"Key": None}, where a wildcard hands it the key.
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

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR
export AIRFLOW_CONN_AWS_DEFAULT='{"conn_type": "aws", "login": "test", "password": "test",
  "extra": {"region_name": "eu-west-1", "endpoint_url": "http://127.0.0.1:'"$port"'"}}'
"$work/venv/bin/python" -W ignore - <<'PY'
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor

hook = S3Hook()
hook.create_bucket("drops", region_name="eu-west-1")
hook.load_string("half of it", "in/orders.csv", "drops")
calls = []


def complete(files, **context):
    calls.append(files)
    return False


def look(**how):
    calls.clear()
    return S3KeySensor(task_id="wait", bucket_name="drops", check_fn=complete, **how).poke({}), list(calls)


wildcard = look(bucket_key="in/*.csv", wildcard_match=True)
exact = look(bucket_key="in/orders.csv")
regex = look(bucket_key=r"in/.*\.csv", use_regex=True)
print("wildcard:", wildcard, "exact:", exact, "regex:", regex, sep="\n")
assert wildcard == (False, [[{"Size": 10, "Key": "in/orders.csv"}]])
assert exact == (False, [[{"Size": 10, "Key": None}]])
assert regex == (True, [])
PY
