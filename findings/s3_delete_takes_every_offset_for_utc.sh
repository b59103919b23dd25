#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0: S3DeleteObjectsOperator drops the offset of a time, and so deletes objects that
# are not meant.
#
# from_datetime and to_datetime are templated, so they mostly arrive as text. The operator reads the text and then
# replaces its zone by UTC, instead of converting it: "until midnight in Kolkata", 00:00+05:30, becomes midnight in UTC,
# five and a half hours later, and what was written in between is deleted as well. West of UTC it is too little. The
# same time given as a datetime is right, so that a test which passes one proves nothing. What helps is a template in
# UTC, as data_interval_end is by itself.
#
# Seen, objects of 18:00 and 20:00 UTC, to_datetime midnight in Kolkata, which is 18:30 UTC: as a datetime 18:00 is
# deleted, as text both; the same text in UTC 18:00.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-amazon==9.34.0

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/python" -W ignore - <<'PY'
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WRITTEN = {"in/18": "2026-03-01T18:00:00Z", "in/20": "2026-03-01T20:00:00Z"}
OBJECT = "<Contents><Key>{}</Key><LastModified>{}</LastModified><Size>1</Size></Contents>"
deleted = []


class S3(BaseHTTPRequestHandler):
    """ListObjectsV2 and DeleteObjects of one bucket."""

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self):
        self.answer(f"<ListBucketResult>{''.join(OBJECT.format(*each) for each in WRITTEN.items())}</ListBucketResult>")

    def do_POST(self):
        deleted.extend(re.findall(r"<Key>(.*?)</Key>", self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.answer("<DeleteResult></DeleteResult>")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), S3)
threading.Thread(target=server.serve_forever, daemon=True).start()
extra = {"region_name": "eu-west-1", "endpoint_url": f"http://127.0.0.1:{server.server_port}"}
connection = {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(connection)

import pendulum
from airflow.providers.amazon.aws.operators.s3 import S3DeleteObjectsOperator


def deletes(until):
    deleted.clear()
    S3DeleteObjectsOperator(task_id="clean", bucket="files", prefix="in/", to_datetime=until).execute({})
    return list(deleted)


midnight = pendulum.datetime(2026, 3, 2, tz="Asia/Kolkata")
as_datetime, as_text = deletes(midnight), deletes(midnight.isoformat())
in_utc = deletes(midnight.in_timezone("UTC").isoformat())
print("until:", midnight, "datetime:", as_datetime, "text:", as_text, "text in UTC:", in_utc, sep="\n")
assert as_datetime == in_utc == ["in/18"]
assert as_text == ["in/18", "in/20"]
PY
