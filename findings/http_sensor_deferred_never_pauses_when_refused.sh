#!/usr/bin/env bash
# Airflow 3.3.1, http provider 6.0.5: a deferred HttpSensor that is refused asks again without a pause, until its
# time-out.
#
# In the worker, 404 means "not yet", and any other error of the partner fails the task at once. The trigger waits for
# poke_interval only after a 404. After a 403, 410 or 429 it asks again as soon as it is answered, and never fails: a
# key that was revoked, or a quota that is used up, becomes some hundred calls a second, for seven days by default, and
# "too many requests" is answered with more of them. response_error_codes_allowlist, which says what else means "not
# yet", is not passed on, nor are request_kwargs. With response_check the sensor does not defer, whatever deferrable is.
#
# Seen, with poke_interval=60: 404 one call, then the pause; 403 and 429 in the worker an AirflowException after one
# call, by the trigger 50 calls within seconds.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-http==6.0.5

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/python" -W ignore - <<'PY'
import asyncio
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

calls, answer = [], {"status": 404}


class Partner(BaseHTTPRequestHandler):
    def do_GET(self):
        calls.append(answer["status"])
        self.send_response(answer["status"])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Partner)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["AIRFLOW_CONN_HTTP_DEFAULT"] = json.dumps(
    {"conn_type": "http", "host": f"http://127.0.0.1:{server.server_port}"}
)

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk.exceptions import AirflowException


def by_worker(status):
    """What the sensor's look in the worker ends with."""
    answer["status"] = status
    calls.clear()
    try:
        HttpSensor(task_id="wait", endpoint="report", poke_interval=60, deferrable=True).execute({})
    except TaskDeferred as wait:
        return wait.trigger, len(calls)
    except AirflowException as error:
        return str(error), len(calls)


async def by_trigger(trigger, number, seconds):
    """How many calls were made, up to this number, within this time."""
    end, waiting = time.monotonic() + seconds, asyncio.ensure_future(anext(trigger.run()))
    while len(calls) < number and time.monotonic() < end:
        await asyncio.sleep(0.01)
    assert not waiting.done()
    waiting.cancel()
    return len(calls)


trigger, looks = by_worker(404)
calls.clear()
absent = asyncio.run(by_trigger(trigger, 2, 10))
print("404: worker", looks, "then the trigger, in 10 s:", absent)
assert (looks, absent) == (1, 1)
for status in (403, 429):
    error, looks = by_worker(status)
    calls.clear()
    begin = time.monotonic()
    refused = asyncio.run(by_trigger(trigger, 50, 60))
    print(f"{status}: worker", (error, looks), "trigger:", refused, "in", round(time.monotonic() - begin, 1), "s")
    assert error.startswith(str(status))
    assert looks == 1
    assert refused >= 50
PY
