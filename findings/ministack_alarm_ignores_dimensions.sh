#!/usr/bin/env bash
# MiniStack 1.5.33, boto3 1.43.102: an alarm goes off for a metric with other dimensions.
#
# Two alarms watch the metric Errors of AWS/Lambda, one with FunctionName a, one with FunctionName b. One value is put,
# for b. On AWS only the alarm of b goes off; an alarm compares the metric with exactly its dimensions. Here both do. A
# test that an alarm notices a failure therefore passes with the wrong dimension too, which on AWS never has data; and an
# alarm that should be silent sends its message. So dimensions have to be tested on the template itself.
#
# Seen: both alarms in the state ALARM.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/emulator"
"$work/emulator/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt \
  ministack==1.5.33 boto3==1.43.102
port=$(python3.12 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
BIND_HOST=127.0.0.1 GATEWAY_PORT=$port IOT_MTLS_ENABLED=0 "$work/emulator/bin/ministack" >"$work/emulator.log" 2>&1 &
echo $! >"$work/pid"
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$(cat "$work/pid")" && sleep 0.2; done

AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_DEFAULT_REGION=eu-west-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test \
  "$work/emulator/bin/python" - <<'PY'
import time

import boto3

cloudwatch = boto3.client("cloudwatch")


def of(function):
    return [{"Name": "FunctionName", "Value": function}]


for function in "ab":
    cloudwatch.put_metric_alarm(
        AlarmName=f"errors of {function}",
        Namespace="AWS/Lambda",
        MetricName="Errors",
        Dimensions=of(function),
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="notBreaching",
    )


def states():
    return {alarm["AlarmName"]: alarm["StateValue"] for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}


before = states()
value = {"MetricName": "Errors", "Dimensions": of("b"), "Value": 1.0}
cloudwatch.put_metric_data(Namespace="AWS/Lambda", MetricData=[value])
end = time.monotonic() + 60
while states()["errors of b"] != "ALARM" and time.monotonic() < end:
    time.sleep(0.5)
after = states()
print("before:", before, "after a value for b:", after, sep="\n")
assert "ALARM" not in before.values()
assert after == {"errors of a": "ALARM", "errors of b": "ALARM"}
PY
