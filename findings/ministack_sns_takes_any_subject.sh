#!/usr/bin/env bash
# MiniStack 1.5.33, boto3 1.43.102: a subject that SNS refuses is delivered.
#
# SNS takes subjects of less than 100 characters without line breaks and refuses the whole message otherwise
# (InvalidParameter). The emulator holds SNS's limit of size and of a batch, but delivers any subject, and a message per
# protocol (MessageStructure json) without the key "default", which is required too. boto3 checks neither. So an alert
# whose subject is built from a DAG, a task or the first line of an error passes every test, and is lost on AWS for the
# name or the error that is long: the one time it is needed.
#
# Seen: a subject of 150 characters, one with a line break and a message without "default" are all accepted, and both
# subjects arrive in the queue unchanged. 256 KB and one byte: InvalidParameter.
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
import re

import boto3
from botocore.exceptions import ClientError

sns, sqs = boto3.client("sns"), boto3.client("sqs")
documented = sns.meta.service_model.operation_model("Publish").input_shape.members["Subject"].documentation
print("botocore:", re.search(r"Constraints: ([^<]+)", documented).group(1))
topic = sns.create_topic(Name="alerts")["TopicArn"]
queue = sqs.create_queue(QueueName="alerts")["QueueUrl"]
arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)


def publish(**message):
    try:
        return bool(sns.publish(TopicArn=topic, **message)["MessageId"])
    except ClientError as error:
        return error.response["Error"]["Code"]


subjects = ["x" * 150, "failed:\nno answer"]
accepted = [publish(Subject=subject, Message="alert") for subject in subjects]
arrived = []
while len(arrived) < 2:
    for message in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20)["Messages"]:
        arrived.append(json.loads(message["Body"])["Subject"])
without_default = publish(MessageStructure="json", Message=json.dumps({"sqs": "alert"}))
too_long = publish(Message="x" * 262_145)
print("subjects:", accepted, "without default:", without_default, "256 KB and one byte:", too_long)
assert accepted == [True, True]
assert sorted(arrived) == sorted(subjects)
assert without_default is True
assert too_long == "InvalidParameter"
PY
