#!/usr/bin/env bash
# MiniStack 1.5.33, boto3 1.43.102: a nested stack with an Fn::GetAtt can be created, but not updated.
#
# The resources are a queue, a parameter whose value is the queue's ARN, and a parameter whose value is the stack's own
# parameter Note, which changes. As a stack of its own this is created and updated. As a nested stack it is created; the
# update ends in UPDATE_ROLLBACK_FAILED, and its reason names only the nested stack. Without the Fn::GetAtt the nested
# stack is updated. On AWS all of it is updated. So a test of an update may change the parameters of the root alone, or
# begins with an empty emulator.
#
# Seen: alone UPDATE_COMPLETE, nested UPDATE_ROLLBACK_FAILED, nested without Fn::GetAtt UPDATE_COMPLETE.
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

cloudformation, s3 = boto3.client("cloudformation"), boto3.client("s3")
s3.create_bucket(Bucket="templates", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
NOTE = {"Note": {"Type": "String"}}


def inner(name, value):
    def parameter(kind, text):
        properties = {"Name": f"/{name}/{kind}", "Type": "String", "Value": text}
        return {"Type": "AWS::SSM::Parameter", "Properties": properties}

    resources = {
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": name}},
        "Address": parameter("address", value),
        "Remark": parameter("remark", {"Ref": "Note"}),
    }
    return {"Parameters": NOTE, "Resources": resources}


def outer(name, template):
    s3.put_object(Bucket="templates", Key=name, Body=json.dumps(template))
    properties = {"TemplateURL": f"{s3.meta.endpoint_url}/templates/{name}", "Parameters": {"Note": {"Ref": "Note"}}}
    return {"Parameters": NOTE, "Resources": {"Inner": {"Type": "AWS::CloudFormation::Stack", "Properties": properties}}}


def states(name, template):
    for note, deploy in (("first", cloudformation.create_stack), ("second", cloudformation.update_stack)):
        parameters = [{"ParameterKey": "Note", "ParameterValue": note}]
        deploy(StackName=name, TemplateBody=json.dumps(template), Parameters=parameters)
        while True:
            stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
            if not stack["StackStatus"].endswith("IN_PROGRESS"):
                break
            time.sleep(0.2)
        yield stack["StackStatus"]


arn = {"Fn::GetAtt": ["Queue", "Arn"]}
alone = list(states("alone", inner("alone", arn)))
nested = list(states("nested", outer("nested", inner("nested", arn))))
without = list(states("without", outer("without", inner("without", "a text"))))
print("alone:", alone, "nested:", nested, "nested without Fn::GetAtt:", without)
assert alone == without == ["CREATE_COMPLETE", "UPDATE_COMPLETE"]
assert nested == ["CREATE_COMPLETE", "UPDATE_ROLLBACK_FAILED"]
PY
