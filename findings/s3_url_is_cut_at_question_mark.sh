#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0: a key that is given as an s3:// URL ends at its first question mark.
#
# The operators, sensors and hooks of S3 take a key with its bucket or one s3:// URL in place of both. The URL is split
# as a web address, whose query is then dropped. (A "#", which would begin a fragment, is kept.) The question mark is
# one of the wildcards of S3KeySensor: with bucket_name the pattern matches, as a URL it has lost its end and waits
# until the time-out. It is a valid character of a key, too: two objects that differ behind it are written over each
# other, under a third name, and nothing is raised.
#
# Seen: day-?.csv: True with bucket_name, False as a URL; load_string to why?1 and why?2: one object, "why", with the
# second content.
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
hook.load_string("1", "in/day-1.csv", "drops")


def look(**where):
    return S3KeySensor(task_id="wait", wildcard_match=True, **where).poke({})


with_bucket, as_url = look(bucket_name="drops", bucket_key="in/day-?.csv"), look(bucket_key="s3://drops/in/day-?.csv")
star = look(bucket_key="s3://drops/in/day-*.csv")
for text in ("1", "2"):
    hook.load_string(text, f"s3://drops/out/why?{text}", replace=True)
hook.load_string("3", "s3://drops/out/no#3")
written = {key: hook.read_key(key, "drops") for key in hook.list_keys("drops", prefix="out/")}
print("day-?.csv with bucket_name:", with_bucket, "as URL:", as_url, "day-*.csv as URL:", star, sep="\n")
print("written:", written)
assert (with_bucket, as_url, star) == (True, False, True)
assert written == {"out/no#3": "3", "out/why": "2"}
PY
