#!/usr/bin/env bash
# MiniStack 1.5.33, boto3 1.43.102: a consumer that asks for more time when its time is over gets it, and the message.
#
# A consumer of SQS with long work prolongs the visibility time-out while it works. Too late, SQS refuses
# (MessageNotInflight, which boto3's description of the call lists): the message is free again, so the consumer learns
# that somebody else may have it. The emulator looks whether another has received it since, and if not, hides the
# message again. A heartbeat that is slower than the time-out thus works in each test with one consumer, and on AWS work
# is done twice. What serves both is a time-out of several heartbeats.
#
# Seen: one second of visibility, over: the message is visible (1 of 1); 600 s more: accepted, single and in a batch,
# and nobody else receives it. When another has received it: ReceiptHandleIsInvalid.
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
from botocore.exceptions import ClientError

sqs = boto3.client("sqs")
listed = [shape.name for shape in sqs.meta.service_model.operation_model("ChangeMessageVisibility").error_shapes]


def overdue(name):
    """A queue with one message, and the receipt of a consumer whose second is over."""
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="work")
    receipt = sqs.receive_message(QueueUrl=url, VisibilityTimeout=1)["Messages"][0]["ReceiptHandle"]
    time.sleep(1.5)
    return url, receipt


def received(url):
    return len(sqs.receive_message(QueueUrl=url, VisibilityTimeout=600).get("Messages", []))


def visible(url):
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return found["Attributes"]["ApproximateNumberOfMessages"]


url, receipt = overdue("single")
free = visible(url)
sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=600)
single = received(url)
url, receipt = overdue("batch")
entry = {"Id": "0", "ReceiptHandle": receipt, "VisibilityTimeout": 600}
answer = sqs.change_message_visibility_batch(QueueUrl=url, Entries=[entry])
batch = received(url)
url, receipt = overdue("taken")
taken = received(url)
try:
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=600)
    refused = None
except ClientError as error:
    refused = error.response["Error"]["Code"]
print("listed:", listed, "visible:", free, "received after the extension:", single, batch, "taken:", refused, sep="\n")
assert "MessageNotInflight" in listed
assert free == "1"
assert single == batch == 0
assert not answer.get("Failed")
assert (taken, refused) == (1, "ReceiptHandleIsInvalid")
PY
