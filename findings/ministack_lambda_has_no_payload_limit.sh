#!/usr/bin/env bash
# MiniStack 1.5.33, boto3 1.43.102: a function answers 7 MB, and a queue that AWS refuses becomes its source.
#
# A synchronous call of a Lambda function may carry 6 MB each way: a larger request is RequestTooLargeException (413),
# a larger answer a function error. The emulator, which holds the limits of SQS, SNS and DynamoDB to the byte, passes
# both. A function that returns "all results" therefore never fails in a test, however large the test. The second
# check that it leaves out is of a deployment: AWS refuses a queue as an event source if its visibility time-out is
# less than the function's time-out, as messages would come back while they are worked on; here the mapping is made.
#
# Seen: request and answer of 7,000,000 bytes: 200, no FunctionError; visibility 1 s, function 30 s: mapping
# "Enabled". An SQS batch of 1,048,577 bytes: BatchRequestTooLong.
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
import zipfile

import boto3
from botocore.exceptions import ClientError

functions, sqs = boto3.client("lambda"), boto3.client("sqs")
code = io.BytesIO()
with zipfile.ZipFile(code, "w") as archive:
    archive.writestr("app.py", "def results(event, context):\n    return 'x' * 7_000_000\n")
functions.create_function(
    FunctionName="results",
    Runtime="python3.12",
    Handler="app.results",
    Role="arn:aws:iam::000000000000:role/results",
    Code={"ZipFile": code.getvalue()},
    Timeout=30,
)
request = json.dumps({"filter": "x" * 7_000_000})
call = functions.invoke(FunctionName="results", Payload=request)
answer = len(call["Payload"].read())
print("request:", len(request), "answer:", answer, "status:", call["StatusCode"], call.get("FunctionError"))

queue = sqs.create_queue(QueueName="orders", Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
mapping = functions.create_event_source_mapping(FunctionName="results", EventSourceArn=arn)["State"]
entries = [{"Id": str(half), "MessageBody": "x" * size} for half, size in enumerate((524_288, 524_289))]
try:
    batch = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
except ClientError as error:
    batch = error.response["Error"]["Code"]
print("mapping:", mapping, "batch of 1 MB and a byte:", batch)
assert answer > 7_000_000
assert (call["StatusCode"], call.get("FunctionError")) == (200, None)
assert mapping == "Enabled"
assert batch.endswith("BatchRequestTooLong")
PY
