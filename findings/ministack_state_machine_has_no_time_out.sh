#!/usr/bin/env bash
# MiniStack 1.5.33, boto3 1.43.102: a state machine beyond its time-out, or with a path that is not there, succeeds.
#
# TimeoutSeconds of a whole machine is stored and not looked at, so an execution is never TIMED_OUT, as it is on AWS. A
# path that the input does not have, in InputPath, Parameters or a Choice, is null; on AWS that is States.Runtime, which
# fails the execution and which no Catch holds. So a misspelt path goes down the default branch, and the test is green.
# The other way round, StartExecution is documented as idempotent: the same name and input as of a running execution
# get its ARN. MiniStack refuses it, so a start that is sent again after a lost answer fails in the test only.
#
# Seen: 3 s of waiting with a time-out of 1 s SUCCEEDED; a missing path SUCCEEDED with null, in a Choice with the
# default branch; the second start ExecutionAlreadyExists.
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
import json
import time

import boto3

machines = boto3.client("stepfunctions")


def machine(name, states, **more):
    definition = json.dumps({"StartAt": "First", "States": states, **more})
    role = "arn:aws:iam::000000000000:role/machine"
    return machines.create_state_machine(name=name, definition=definition, roleArn=role)["stateMachineArn"]


def start(arn, **how):
    return machines.start_execution(stateMachineArn=arn, input='{"orders": 3}', **how)["executionArn"]


def end(arn):
    execution = start(arn)
    while True:
        seen = machines.describe_execution(executionArn=execution)
        if seen["status"] != "RUNNING":
            return seen["status"], json.loads(seen["output"]), (seen["stopDate"] - seen["startDate"]).total_seconds()
        time.sleep(0.2)


def result(text):
    return {"Type": "Pass", "Result": text, "End": True}


wait = {"Type": "Wait", "Seconds": 3, "End": True}
late = end(machine("late", {"First": wait}, TimeoutSeconds=1))
no_input = end(machine("no-input", {"First": {"Type": "Pass", "InputPath": "$.order", "End": True}}))
parameters = {"count.$": "$.order"}
no_parameter = end(machine("no-parameter", {"First": {"Type": "Pass", "Parameters": parameters, "End": True}}))
rule = {"Variable": "$.order", "NumericGreaterThan": 0, "Next": "Some"}
choice = {"Type": "Choice", "Choices": [rule], "Default": "None"}
no_variable = end(machine("no-variable", {"First": choice, "Some": result("some"), "None": result("none")}))

waiting = machine("waiting", {"First": wait})
start(waiting, name="monday")
try:
    again = start(waiting, name="monday")
except machines.exceptions.ExecutionAlreadyExists as error:
    again = error.response["Error"]["Code"]
print("late:", late, "no path:", no_input[:2], no_parameter[:2], no_variable[:2], "started again:", again, sep="\n")
assert late[0] == "SUCCEEDED"
assert late[2] > 2
assert no_input[:2] == ("SUCCEEDED", None)
assert no_parameter[:2] == ("SUCCEEDED", {"count": None})
assert no_variable[:2] == ("SUCCEEDED", "none")
assert again == "ExecutionAlreadyExists"
PY
