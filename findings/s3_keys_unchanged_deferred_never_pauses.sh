#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0: a deferred S3KeysUnchangedSensor lists the bucket without a pause, and takes
# other files for the same ones.
#
# The sensor waits until a prefix has not changed for an hour, say. In the worker it looks every poke_interval. The
# trigger is not told of it and sleeps for 0 seconds: it asks S3 again as soon as it is answered, as long as it waits,
# each time for the whole list. At 20 requests a second an hour costs 36 cents for each waiting task, and the triggerer
# does little else. What it compares is not the same either: the worker compares the names, the trigger
# counts them. One that is gone and one that is new, as when an upload gets its final name, is no change, and no
# deletion for allow_delete=False. Content that is written anew under the same name is no change for both.
#
# Seen, with poke_interval=60: 1 look by the worker, then 50 by the trigger within seconds. After order.part became
# order.csv: the worker begins to count again, or refuses the deletion; the trigger succeeds, both times.
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
import time
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

keys, looks = ["in/order.part"], []
OBJECT = "<Contents><Key>{}</Key><LastModified>2026-03-02T00:00:00Z</LastModified><Size>1</Size></Contents>"


class S3(BaseHTTPRequestHandler):
    """ListObjectsV2 of one bucket."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        looks.append(self.path)
        listed = "".join(map(OBJECT.format, keys))
        body = f"<ListBucketResult><KeyCount>{len(keys)}</KeyCount>{listed}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), S3)
threading.Thread(target=server.serve_forever, daemon=True).start()
extra = {"region_name": "eu-west-1", "endpoint_url": f"http://127.0.0.1:{server.server_port}"}
connection = {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(connection)

from airflow.providers.amazon.aws.sensors.s3 import S3KeysUnchangedSensor
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk.exceptions import AirflowException


def deferred(**options):
    """A sensor that has looked once in the worker, and the trigger that goes on, as it is stored and made again."""
    where = {"bucket_name": "files", "prefix": "in/", "poke_interval": 60}
    sensor = S3KeysUnchangedSensor(task_id="wait", deferrable=True, **where, **options)
    try:
        sensor.execute({})
    except TaskDeferred as wait:
        _, kwargs = wait.trigger.serialize()
        return sensor, type(wait.trigger)(**kwargs)


async def seconds_for(trigger, number):
    """How long it takes until the trigger has looked so often."""
    begin, waiting = time.monotonic(), asyncio.ensure_future(anext(trigger.run()))
    while len(looks) < number:
        await asyncio.sleep(0.01)
    waiting.cancel()
    return time.monotonic() - begin


async def end(trigger):
    async with aclosing(trigger.run()) as events:
        return (await anext(events)).payload["status"]


_, trigger = deferred(inactivity_period=3600)
by_worker = len(looks)
looks.clear()
seconds = asyncio.run(asyncio.wait_for(seconds_for(trigger, 50), 600))
print("looks of the worker:", by_worker, "seconds for 50 looks of the trigger:", round(seconds, 1))
assert by_worker == 1
assert seconds < 60

for allow_delete in (True, False):
    keys[:] = ["in/order.part"]
    sensor, trigger = deferred(inactivity_period=1, allow_delete=allow_delete)
    keys[:] = ["in/order.csv"]
    time.sleep(1.1)
    try:
        again = sensor.poke({})
    except AirflowException as error:
        again = str(error)
    status = asyncio.run(end(trigger))
    print("allow_delete:", allow_delete, "worker:", again, "trigger:", status)
    assert status == "success"
    assert again is False if allow_delete else "objects were deleted" in again
PY
