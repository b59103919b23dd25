#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0: a deferred S3KeySensor hands check_fn other files than its first look does.
#
# The first look, in the worker, hands check_fn the keys that match the wildcard. After the deferral the triggerer finds
# that a key matches, and then makes the list for check_fn anew: everything directly under the text before the first
# wildcard, matching or not, and nothing in folders below. With a wildcard for a folder the file that ended the wait is
# not in the list, and a stranger is. A sensor that waits for a size never ends, or ends for the wrong file.
# A check_fn without **context, which the first look allows, raises TypeError after the deferral.
#
# Seen, for in/*/orders.csv: first look in/acme/orders.csv; after the deferral only in/readme.txt.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  'apache-airflow-providers-amazon[aiobotocore]==9.34.0'
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
import asyncio

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sdk.exceptions import TaskDeferred

hook = S3Hook()
hook.create_bucket("drops", region_name="eu-west-1")
hook.load_string("id,amount", "in/acme/orders.csv", "drops")
hook.load_string("", "in/readme.txt", "drops")
calls = []


def complete(files, **context):
    calls.append([file["Key"] for file in files])
    return False


def deferral(run, *arguments):
    try:
        run({}, *arguments)
    except TaskDeferred as deferred:
        return deferred
    raise AssertionError("the sensor ended")


async def first_event(trigger):
    async for event in trigger.run():
        return event.payload


where = {"bucket_name": "drops", "bucket_key": "in/*/orders.csv", "wildcard_match": True, "poke_interval": 1}
sensor = S3KeySensor(task_id="wait", check_fn=complete, deferrable=True, **where)
event = asyncio.run(first_event(deferral(sensor.execute).trigger))
deferral(sensor.execute_complete, event)
print("first look:", calls[0], "after the deferral:", calls[1], sep="\n")
assert calls == [["in/acme/orders.csv"], ["in/readme.txt"]]

plain = S3KeySensor(task_id="plain", check_fn=lambda files: False, deferrable=True, **where)
event = asyncio.run(first_event(deferral(plain.execute).trigger))
try:
    plain.execute_complete({"ts": "now"}, event)
except TypeError as error:
    print("without **context:", error)
else:
    raise AssertionError("check_fn without **context was called")
PY
