#!/usr/bin/env bash
# Airflow 3.3.1, slack provider 9.10.2, slack_sdk 3.43.0: a lost answer makes SlackWebhookHook post the message again.
#
# The hook hands slack_sdk no retry handlers, and slack_sdk then brings one of its own: when the connection ends without
# an answer it sends the same message once more. A webhook has no key that would tell a repeat from a new message, so a
# channel may get an alert twice, and a retry of the task doubles that. At the same time 429, which Slack
# documents with Retry-After and which is safe to repeat, is not repeated at all. retry_handlers=[] posts once.
#
# Seen: the connection closed after the request: 2 posts, then RemoteDisconnected; 429: 1 post, then AirflowException;
# the first case with retry_handlers=[]: 1 post.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/constraints.txt apache-airflow==3.3.1 \
  apache-airflow-providers-slack==9.10.2 slack_sdk==3.43.0

AIRFLOW_HOME=$work "$work/venv/bin/python" -W ignore - 2>"$work/log" <<'PY'
import json
import os
import socketserver
import threading

posts = []
answer = b""


class Slack(socketserver.StreamRequestHandler):
    def handle(self):
        length = 0
        while line := self.rfile.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        posts.append(json.loads(self.rfile.read(length))["text"])
        self.wfile.write(answer)  # nothing: the connection just ends


server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Slack)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_address[1]}/services/T0/B0/made-up"
os.environ["AIRFLOW_CONN_SLACK"] = json.dumps({"conn_type": "slackwebhook", "password": url})
from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook  # noqa: E402


def send(**how):
    posts.clear()
    try:
        SlackWebhookHook(slack_webhook_conn_id="slack", timeout=5, **how).send_text("order 7 was rejected")
    except Exception as error:
        return len(posts), type(error).__name__
    return len(posts), None


lost = send()
lost_without_handlers = send(retry_handlers=[])
answer = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
limited = send()
print("lost answer:", lost, "without handlers:", lost_without_handlers, "429:", limited)
assert lost == (2, "RemoteDisconnected")
assert lost_without_handlers == (1, "RemoteDisconnected")
assert limited == (1, "AirflowException")
PY
