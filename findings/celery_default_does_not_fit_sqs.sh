#!/usr/bin/env bash
# Airflow 3.3.1, celery provider 3.23.1, kombu 5.6.2: Celery on SQS does not start with Airflow's own default.
#
# For brokers with a visibility time-out, SQS named among them, the provider sets 86,400 seconds where nothing is
# configured. SQS takes at most 43,200 (12 hours). kombu creates the queue with that value, so that the first message
# fails with InvalidAttributeValue, which does not say where the value comes from. An installation on SQS has to set it:
# [celery_broker_transport_options] visibility_timeout = 43200.
#
# Seen, against MiniStack 1.5.33, which holds that limit: InvalidAttributeValue, "between 0 and 43200"; with 43200 sent.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-celery==3.23.1 'celery[sqs]==5.6.3' kombu==5.6.2
python3.12 -m venv "$work/emulator"
"$work/emulator/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt ministack==1.5.33
port=$(python3.12 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
BIND_HOST=127.0.0.1 GATEWAY_PORT=$port IOT_MTLS_ENABLED=0 "$work/emulator/bin/ministack" >"$work/emulator.log" 2>&1 &
echo $! >"$work/pid"
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$(cat "$work/pid")" && sleep 0.2; done

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_DEFAULT_REGION=eu-west-1 AIRFLOW__CELERY__BROKER_URL=sqs://test:test@
"$work/venv/bin/python" -W ignore - 2>"$work/log" <<'PY'
from airflow.providers.celery.executors.default_celery import get_default_celery_config
from airflow.providers.common.compat.sdk import conf
from botocore.exceptions import ClientError
from celery import Celery


def send(config):
    app = Celery("finding", config_source=config)
    app.task(lambda: None, name="work")
    try:
        return bool(app.send_task("work", retry=False).id)
    except ClientError as error:
        return error.response["Error"]


config = get_default_celery_config(conf)
print(config["broker_transport_options"])
assert config["broker_transport_options"]["visibility_timeout"] == 86_400
refused = send(config)
print(refused)
assert refused["Code"] == "InvalidAttributeValue"
assert "43200" in refused["Message"]
sent = send({**config, "broker_transport_options": {"visibility_timeout": 43_200}})
print("with 43200:", sent)
assert sent is True
PY
