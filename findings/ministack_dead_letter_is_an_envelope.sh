#!/usr/bin/env bash
# MiniStack 1.5.33, boto3 1.43.102: the dead letter of an asynchronous call is not the event, but a record about it.
#
# When a function has failed for an event that it was given asynchronously, Lambda sends the event to the queue of
# DeadLetterConfig as it was, with request id, error code and message as attributes of the message. A record with the
# event in it, as requestPayload, is what DestinationConfig gets. The emulator sends the record to both, without the
# attributes. So what reads the queue, to show the event or to give it to the function again, is written for a form that
# AWS does not send: it passes its test, and on AWS finds no requestPayload; or it is right, and fails here.
#
# Seen, after three tries with one setting and one with the other: both bodies have requestPayload with the event, the
# dead letter has no attributes.
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
import io
import json
import time
import zipfile

import boto3

functions, sqs = boto3.client("lambda"), boto3.client("sqs")
EVENT = {"order": 7}
archive = io.BytesIO()
with zipfile.ZipFile(archive, "w") as file:
    file.writestr("work.py", "def handler(event, context):\n    raise ValueError('no')\n")


def queue(name):
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    return url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def function(name, **options):
    code = {"Runtime": "python3.12", "Handler": "work.handler", "Code": {"ZipFile": archive.getvalue()}}
    functions.create_function(FunctionName=name, Role="arn:aws:iam::000000000000:role/work", **code, **options)


def sent(name, url):
    """The message that is sent when the function has failed for good."""
    functions.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(EVENT))
    end = time.monotonic() + 300
    while time.monotonic() < end:
        found = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5, MessageAttributeNames=["All"]).get("Messages", [])
        if found:
            return json.loads(found[0]["Body"]), found[0].get("MessageAttributes", {})
    raise AssertionError("no message")


dead_letters, arn = queue("dead-letters")
function("with-dead-letters", DeadLetterConfig={"TargetArn": arn})
failures, arn = queue("failures")
function("with-destination")
destination = {"OnFailure": {"Destination": arn}}
functions.put_function_event_invoke_config(
    FunctionName="with-destination", MaximumRetryAttempts=0, DestinationConfig=destination
)
dead_letter, attributes = sent("with-dead-letters", dead_letters)
record, _ = sent("with-destination", failures)
print("dead letter:", dead_letter, attributes, "destination:", record, sep="\n")
assert dead_letter != EVENT
assert dead_letter["requestPayload"] == record["requestPayload"] == EVENT
assert attributes == {}
PY
