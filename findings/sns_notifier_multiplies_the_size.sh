#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0: SnsNotifier refuses messages that SNS takes, depending on their letters.
#
# SNS takes 256 KB (262,144 bytes) a message. The provider's hook does not send the text but a JSON document {"default":
# text}, with every character beyond ASCII written as six: "ü" has two bytes, and takes six of the limit, a line end
# two, an emoji twelve. So how long an alert may be depends on its language, and one that was cut to 256 KB of UTF-8, as
# documented, is lost with InvalidParameter inside a failure callback. The receiver gets the plain text.
#
# Seen, against MiniStack 1.5.33, which holds the limit: 100,000 bytes of "ü": InvalidParameter; the same text by
# publish of the same connection: accepted; 262,000 bytes of "x": accepted by both.
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
from airflow.providers.amazon.aws.hooks.sns import SnsHook
from airflow.providers.amazon.aws.notifications.sns import SnsNotifier
from botocore.exceptions import ClientError

sns = SnsHook().get_conn()
topic = sns.create_topic(Name="alerts")["TopicArn"]


def outcome(send, **arguments):
    try:
        send(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "accepted"


for letter, expected in (("ü", ("InvalidParameter", "accepted")), ("x", ("accepted", "accepted"))):
    text = letter * (50_000 if letter == "ü" else 262_000)
    notifier = SnsNotifier(target_arn=topic, message=text)
    seen = outcome(notifier.notify, context={}), outcome(sns.publish, TopicArn=topic, Message=text)
    print(f"{len(text.encode())} bytes of {letter}: notifier {seen[0]}, publish {seen[1]}")
    assert seen == expected
PY
