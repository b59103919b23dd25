#!/usr/bin/env bash
# Airflow 3.3.1, http provider 6.0.5: deferrable=True makes HttpOperator send another request, and send it three times.
#
# Deferred, the request is made in the triggerer, by aiohttp instead of requests, and by a hook that tries three times
# whatever the method is: an order that is posted and answered with 503 is posted three times by each try of the task,
# once without deferrable. retry_args, which would say otherwise, are not passed on, and neither are request_kwargs: a
# POST of json={...} goes out without its body, and is a success if the partner accepts that. The body of a DELETE is
# left out, a text gets another content type, and check_response, the provider's own option in extra_options and in the
# connection, is an error before anything is sent. default_deferrable in the configuration switches all operators over.
#
# Seen, in the worker and deferred: POST answered 503: 1 request, 3 requests, with retry_args for one attempt too; json
# {"order": 1}: the body, no body; DELETE with a body: the body, none; check_response False: success, TypeError.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-http==6.0.5

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/python" -W ignore - 2>"$work/log" <<'PY' || { tail "$work/log"; false; }
import asyncio
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk.exceptions import AirflowException, TaskDeferred
from tenacity import RetryError, stop_after_attempt

requests = []


class Partner(BaseHTTPRequestHandler):
    status = 503

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        requests.append((body.decode(), self.headers.get("Content-Type")))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_DELETE = do_POST

    def log_message(self, *_):
        pass


async def first_event(trigger):
    async for event in trigger.run():
        return event.payload


def call(deferrable, **request):
    """How the task ends, how many requests it made, and the last one's body and content type."""
    requests.clear()
    operator = HttpOperator(task_id="call", endpoint="orders", deferrable=deferrable, **request)
    try:
        try:
            operator.execute({})
        except TaskDeferred as deferral:
            operator.execute_complete({}, asyncio.run(first_event(deferral.trigger)))
    except (AirflowException, RetryError) as error:
        return f"{type(error).__name__}: {error}"[:200], len(requests), *requests[-1:]
    return "success", len(requests), *requests[-1:]


def both(title, **request):
    worker, deferred = call(False, **request), call(True, **request)
    print(title, worker, deferred, sep="\n  ")
    return worker, deferred


server = ThreadingHTTPServer(("127.0.0.1", 0), Partner)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["AIRFLOW_CONN_HTTP_DEFAULT"] = f"http://127.0.0.1:{server.server_port}"

worker, deferred = both("503:", data='{"order": 1}')
assert (worker[1], deferred[1]) == (1, 3)
assert worker[2] == ('{"order": 1}', None)
assert deferred[2] == ('{"order": 1}', "text/plain; charset=utf-8")
worker, deferred = both("503, one attempt:", data="1", retry_args={"stop": stop_after_attempt(1)})
assert (worker[1], deferred[1]) == (1, 3)
worker, deferred = both("check_response:", data="1", extra_options={"check_response": False})
assert worker[:2] == ("success", 1)
assert "unexpected keyword argument 'check_response'" in deferred[0]
assert deferred[1] == 0
Partner.status = 200
worker, deferred = both("json:", request_kwargs={"json": {"order": 1}})
assert worker == ("success", 1, ('{"order": 1}', "application/json"))
assert deferred[:2] == ("success", 1)
assert deferred[2][0] == ""
worker, deferred = both("DELETE:", method="DELETE", data='{"order": 1}')
assert worker[2][0] == '{"order": 1}'
assert (deferred[0], deferred[2][0]) == ("success", "")
PY
