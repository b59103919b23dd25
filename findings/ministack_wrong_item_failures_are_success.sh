#!/usr/bin/env bash
# MiniStack 1.5.33, boto3 1.43.102: a function that reports failed messages in the wrong form loses the whole batch.
#
# With ReportBatchItemFailures a function answers which messages of a queue failed. AWS documents what a mistake in that
# answer means: an item without an identifier, with an empty one, with one of no message, or no JSON object at all is a
# failure of the whole batch, which comes again; a list that is null is success. The emulator has it the other way
# round: after each of these mistakes it deletes all messages, and after a null list it keeps them. So a function with
# a misspelt key passes a test that looks whether its batch is done, and on AWS does all work again until the messages
# are dead letters.
#
# Seen, messages left of two: exception 2; first reported 1; key "messageId" 0; identifier "" 0; null 0; unknown 0; a
# text 0; list null 2.
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
import time
import zipfile

import boto3

lambdas, sqs, logs = boto3.client("lambda"), boto3.client("sqs"), boto3.client("logs")
CODE = """
def handler(event, context):
    ids = [record["messageId"] for record in event["Records"]]
    print("called")
    return {}
"""


def printed(name):
    try:
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    except logs.exceptions.ResourceNotFoundException:
        return ""
    return "".join(event["message"] for event in events)


def left(name, answer):
    """How many of two messages a queue still has when a function has answered so."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", CODE.format(answer))
    lambdas.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Handler="app.handler",
        Timeout=20,
        Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": archive.getvalue()},
    )
    url = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "600"})["QueueUrl"]
    for body in ("first", "second"):
        sqs.send_message(QueueUrl=url, MessageBody=body)
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    lambdas.create_event_source_mapping(
        EventSourceArn=arn, FunctionName=name, FunctionResponseTypes=["ReportBatchItemFailures"]
    )
    # The emulator deletes messages as soon as the function has answered.
    while "called" not in printed(name):
        time.sleep(0.2)
    time.sleep(2)
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    total = int(counts["ApproximateNumberOfMessages"]) + int(counts["ApproximateNumberOfMessagesNotVisible"])
    print(f"{name}: {total} of 2 left")
    return total


exception = left("exception", "1 / 0")
first = left("first", "{'batchItemFailures': [{'itemIdentifier': ids[0]}]}")
no_list = left("no_list", "{'batchItemFailures': None}")
mistakes = [
    left("other_key", "{'batchItemFailures': [{'messageId': ids[0]}]}"),
    left("empty", "{'batchItemFailures': [{'itemIdentifier': ''}]}"),
    left("null", "{'batchItemFailures': [{'itemIdentifier': None}]}"),
    left("unknown", "{'batchItemFailures': [{'itemIdentifier': 'nobody'}]}"),
    left("text", "'failed'"),
]
assert (exception, first) == (2, 1)
assert no_list == 2
assert mistakes == [0] * 5
PY
