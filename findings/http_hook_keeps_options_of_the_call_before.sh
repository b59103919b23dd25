#!/usr/bin/env bash
# Airflow 3.3.1, http provider 6.0.5: HttpHook uses the extra_options of one call for the next one, which gives none.
#
# extra_options belong to a call: {"check_response": False} for a question whose answer may be a 404, {"timeout": 1} for
# one that must be quick. The hook keeps them, merged with the connection's extra, and replaces them only if the next
# call has options or the connection has an extra. If neither, that call has those of the one before: a POST that is
# answered with 500 raises nothing, and its task is a success; {} replaces nothing either. With any extra in the
# connection, a header for example, each call has its own, so that the same code is right with one connection and wrong
# with another. A hook for each call helps.
#
# Seen: POST answered with 500: AirflowException; after a call with check_response False: status 500, no error; so too
# with extra_options={}; with an extra in the connection: AirflowException.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-http==6.0.5

export AIRFLOW_HOME=$work AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
"$work/venv/bin/python" -W ignore - <<'PY'
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Partner(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(404 if self.path == "/exists" else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Partner)
threading.Thread(target=server.serve_forever, daemon=True).start()
plain = {"conn_type": "http", "host": f"http://127.0.0.1:{server.server_port}"}
os.environ["AIRFLOW_CONN_PLAIN"] = json.dumps(plain)
os.environ["AIRFLOW_CONN_WITH_EXTRA"] = json.dumps({**plain, "extra": {"X-Caller": "orders"}})

from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk.exceptions import AirflowException


def post(hook, **options):
    try:
        return hook.run("orders", data="{}", **options).status_code
    except AirflowException as error:
        return f"AirflowException: {error}"


def after_a_question(connection, **options):
    hook = HttpHook("POST", http_conn_id=connection)
    assert hook.run("exists", extra_options={"check_response": False}).status_code == 404
    return post(hook, **options)


first = post(HttpHook("POST", http_conn_id="plain"))
second, with_empty = after_a_question("plain"), after_a_question("plain", extra_options={})
with_extra = after_a_question("with_extra")
print("first:", first, "second:", second, "second, with {}:", with_empty, "with an extra:", with_extra, sep="\n")
assert first == with_extra == "AirflowException: 500:Internal Server Error"
assert second == with_empty == 500
PY
