#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0: a state machine's execution that has timed out is waited for, not failed.
#
# An execution ends as SUCCEEDED, FAILED, TIMED_OUT or ABORTED. The waiter of StepFunctionStartExecutionOperator in
# deferrable mode does not know TIMED_OUT, and asks on until its attempts are used up: by default 30 minutes after the
# end of the execution. Then the task fails with "max attempts reached", which sounds as if it were still running.
# StepFunctionExecutionSensor knows it. Of one that failed, StepFunctionGetExecutionOutputOperator, which is to return
# its error, reads the error's name as JSON, and fails with a JSONDecodeError that does not show it; of one that was
# aborted it returns None. An emulator can hide this: MiniStack sets an output for failed executions, too.
#
# Seen, against a server that answers as AWS documents it, with 5 attempts: FAILED and ABORTED are told after one look,
# TIMED_OUT after 5; the output of FAILED and TIMED_OUT is a JSONDecodeError.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  'apache-airflow-providers-amazon[aiobotocore]==9.34.0'

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/python" -W ignore - <<'PY'
import asyncio
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:orders"
ENDS = {
    "SUCCEEDED": {"output": '{"orders": 3}'},
    "FAILED": {"error": "Orders.Refused", "cause": "no stock"},
    "TIMED_OUT": {"error": "States.Timeout"},
    "ABORTED": {},
}
looks = []


class StepFunctions(BaseHTTPRequestHandler):
    """DescribeExecution: the name of an execution is the status that it has ended with."""

    def do_POST(self):
        arn = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["executionArn"]
        status = arn.rpartition(":")[2]
        looks.append(status)
        times = {"startDate": 1775000000, "stopDate": 1775000060}
        execution = {"executionArn": arn, "stateMachineArn": MACHINE, "status": status, **times, **ENDS[status]}
        body = json.dumps(execution).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), StepFunctions)
threading.Thread(target=server.serve_forever, daemon=True).start()
extra = {"region_name": "eu-west-1", "endpoint_url": f"http://127.0.0.1:{server.server_port}"}
connection = {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(connection)

from airflow.providers.amazon.aws.operators.step_function import StepFunctionGetExecutionOutputOperator
from airflow.providers.amazon.aws.sensors.step_function import StepFunctionExecutionSensor
from airflow.providers.amazon.aws.triggers.step_function import StepFunctionsExecutionCompleteTrigger


class TaskInstance:
    def xcom_push(self, **_):
        pass


context = {"ti": TaskInstance()}


async def wait(arn):
    trigger = StepFunctionsExecutionCompleteTrigger(
        execution_arn=arn, waiter_delay=0, waiter_max_attempts=5, aws_conn_id="aws_default"
    )
    return await anext(trigger.run())


def attempt(call):
    try:
        return call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


waited, sensed, outputs = {}, {}, {}
for status in ENDS:
    arn = f"{MACHINE.replace('stateMachine', 'execution')}:{status}"
    looks.clear()
    event = attempt(lambda: asyncio.run(wait(arn)))
    waited[status] = len(looks), str(event)
    sensed[status] = attempt(lambda: StepFunctionExecutionSensor(task_id="wait", execution_arn=arn).poke(context))
    output = StepFunctionGetExecutionOutputOperator(task_id="output", execution_arn=arn)
    outputs[status] = attempt(lambda: output.execute(context))
print("deferred:", *waited.items(), "sensor:", *sensed.items(), "output:", *outputs.items(), sep="\n")
assert [count for count, _ in waited.values()] == [1, 1, 5, 1]
assert "Orders.Refused" in waited["FAILED"][1]
assert "max attempts reached" in waited["TIMED_OUT"][1]
assert sensed["SUCCEEDED"] is True
assert all("sensor failed" in sensed[status] for status in ("FAILED", "TIMED_OUT", "ABORTED"))
assert (outputs["SUCCEEDED"], outputs["ABORTED"]) == ({"orders": 3}, None)
assert all("JSONDecodeError" in outputs[status] for status in ("FAILED", "TIMED_OUT"))
PY
