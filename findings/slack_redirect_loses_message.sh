#!/usr/bin/env bash
# Airflow 3.3.1, slack provider 9.10.2, slack_sdk 3.43.0: a redirected message is lost, and its task succeeds.
#
# slack_sdk posts with urllib, which follows a redirect of a POST by a GET without the body. Where a proxy sends whoever
# is not logged in to its login page, or a webhook's address has moved, the page that comes in the end has status 200.
# SlackWebhookHook looks at the status alone: nothing raises, and the channel never gets the alert. Slack itself says
# "ok" in the body; a task that looks at the answer that the hook returns would notice.
#
# Seen: one POST, then one GET of the page; status 200; nothing raised.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-slack==9.10.2 slack_sdk==3.43.0

AIRFLOW_HOME=$work "$work/venv/bin/python" -W ignore - 2>"$work/log" <<'PY'
import http.server
import json
import os
import threading

calls = []


class Proxy(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        calls.append(("POST", json.loads(body)["text"]))
        self.send_response(302)
        self.send_header("Location", "/login")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        calls.append(("GET", self.path))
        page = b"<html>Please log in</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/services/T0/B0/made-up"
os.environ["AIRFLOW_CONN_SLACK"] = json.dumps({"conn_type": "slackwebhook", "password": url})
from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook  # noqa: E402

answer = SlackWebhookHook(slack_webhook_conn_id="slack", timeout=5).send_text("order 7 was rejected")
print("calls:", calls, "status:", answer.status_code, "body:", answer.body)
assert calls == [("POST", "order 7 was rejected"), ("GET", "/login")]
assert answer.status_code == 200
PY
