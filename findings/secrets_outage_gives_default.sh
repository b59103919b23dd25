#!/usr/bin/env bash
# Airflow 3.3.1, amazon provider 9.34.0: while Secrets Manager fails, every Variable has its default, and tasks succeed.
#
# Variable.get(name, default=...) is read as "unless somebody has set it". Each error of the secrets backend counts as
# "not set" too: the search goes on to the environment and to Airflow's database, then takes the default. So in an
# outage, or when the key that encrypts the secrets was disabled, a limit, a recipient or "for real" has the value of
# the code for some runs, and no task fails. InternalServiceError, DecryptionFailure and InvalidRequestException leave
# nothing in the log above DEBUG; other errors are logged. Without a default the error is "not found", which sends
# people to look for a deleted secret. What helps is to give no default to what must not have it.
#
# Seen: value 5 in Secrets Manager; with its InternalServiceError and DecryptionFailure: 1000 (the default), and
# VARIABLE_NOT_FOUND without one, no error in the log; with AccessDeniedException: the same, one error for each read.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-amazon==9.34.0

export AIRFLOW_HOME=$work AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_MAX_ATTEMPTS=1
export AIRFLOW__SECRETS__BACKEND=airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend
cat >"$work/read.py" <<'PY'
from airflow.sdk import Variable
from airflow.sdk.exceptions import AirflowRuntimeError

value = Variable.get("limit", default="1000")
try:
    without_default = Variable.get("limit")
except AirflowRuntimeError as error:
    without_default = error.error.error.name
print(value, without_default)
PY
"$work/venv/bin/python" - <<'PY'
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

answer = {}


class SecretsManager(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(answer["body"]).encode()
        self.send_response(answer["status"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), SecretsManager)
threading.Thread(target=server.serve_forever, daemon=True).start()
arguments = {"region_name": "eu-west-1", "endpoint_url": f"http://127.0.0.1:{server.server_port}"}
os.environ["AIRFLOW__SECRETS__BACKEND_KWARGS"] = json.dumps(arguments)


def read(status, **body):
    """What a process gets while the service answers so, with a default and without, and how many errors it logs."""
    answer.update(status=status, body=body)
    command = [sys.executable, "-W", "ignore", f"{os.environ['AIRFLOW_HOME']}/read.py"]
    log = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return *log.splitlines()[-1].split(), log.count("[error ")


found = read(200, SecretString="5")
outage = read(500, __type="InternalServiceError")
undecryptable = read(400, __type="DecryptionFailure")
denied = read(400, __type="AccessDeniedException")
print("found:", found, "outage:", outage, "undecryptable:", undecryptable, "denied:", denied, sep="\n")
assert found == ("5", "5", 0)
assert outage == undecryptable == ("1000", "VARIABLE_NOT_FOUND", 0)
assert denied == ("1000", "VARIABLE_NOT_FOUND", 2)
PY
