#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0: SqsSensor with a message filter loses messages, its own and those of others.
#
# The sensor reads num_batches times and deletes what matches after each read, before anything is pushed. The JSONPath
# filter takes every body for JSON. A text in the second read fails the task when the first message is deleted already:
# it is nowhere. (Deferred, the same code runs in the trigger.) "Messages with a Body which does not match are ignored"
# does not hold for the queue: each was received, so it is hidden from the consumer that it was sent to, counts as an
# attempt, and after some pokes is in the dead-letter queue. With one match value given as text, as "value/s" invites,
# that is every message: the text is taken apart into its letters.
#
# Seen: an order, then a text: JSONDecodeError, nothing pushed, the order deleted; a queue that allows 3 attempts: after
# 4 pokes for "order" as text nothing was taken, and all messages are dead letters.
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
import json

from airflow.providers.amazon.aws.hooks.sqs import SqsHook
from airflow.providers.amazon.aws.sensors.sqs import SqsSensor

ORDER, INVOICE, TEXT = '{"kind": "order"}', '{"kind": "invoice"}', "a text"
sqs = SqsHook().conn
pushed = []


class Instance:
    def xcom_push(self, key, value):
        pushed.extend(message["Body"] for message in value)


def queue(name, *bodies, **attributes):
    """A queue in which each message can be received again at once, in order."""
    attributes |= {"FifoQueue": "true", "VisibilityTimeout": "0"}
    url = sqs.create_queue(QueueName=f"{name}.fifo", Attributes=attributes)["QueueUrl"]
    for number, body in enumerate(bodies):
        sqs.send_message(
            QueueUrl=url, MessageBody=body, MessageGroupId=str(number), MessageDeduplicationId=str(number)
        )
    return url


def bodies(url):
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return sorted(message["Body"] for message in messages)


def poke(url, **options):
    return SqsSensor(task_id="wait", sqs_queue=url, wait_time_seconds=0, **options).poke({"ti": Instance()})


mixed = queue("mixed", ORDER, TEXT)
by_kind = {"message_filtering": "jsonpath", "message_filtering_config": "kind"}
try:
    poke(mixed, max_messages=1, num_batches=2, message_filtering_match_values=["order"], **by_kind)
    failed = None
except json.JSONDecodeError as error:
    failed = error
rest = bodies(mixed)
print("failed:", repr(failed), "pushed:", pushed, "left:", rest)

dead = queue("dead")
arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
shared = queue("shared", ORDER, INVOICE, RedrivePolicy=json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "3"}))
found = [poke(shared, message_filtering_match_values="order", **by_kind) for _ in range(4)]
left, dead_letters = bodies(shared), bodies(dead)
print("found:", found, "left:", left, "dead letters:", dead_letters)
assert failed is not None
assert pushed == []
assert rest == [TEXT]
assert found == [False] * 4
assert left == []
assert dead_letters == [INVOICE, ORDER]
PY
