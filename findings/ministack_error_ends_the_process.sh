#!/usr/bin/env bash
# MiniStack 1.5.33, boto3 1.43.102: an error of a handler has no class, and ends the function's process.
#
# On AWS the errorType of a call that failed is the name of the exception's class, by which Step Functions' Retry and
# Catch, and callers, tell errors apart; and the error ends the call, not the execution environment: the next call finds
# the module's variables as they were left. The emulator says Runtime.HandlerError for every class, and starts the next
# call in a new process, though it keeps it between calls that succeed. So a caller that goes by the class takes another
# way here; what an error leaves half done in a module's variable spoils later calls on AWS only; and a function that
# refuses by errors is measured with a cold start nearly each time.
#
# Seen: two calls, one that raises ValueError, two calls: the module's counter says 1, 2, Runtime.HandlerError, 1, 2.
# On AWS it would be 1, 2, ValueError, 4, 5.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/emulator"
"$work/emulator/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt \
  ministack==1.5.33 boto3==1.43.102
port=$(python3.12 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
BIND_HOST=127.0.0.1 GATEWAY_PORT=$port IOT_MTLS_ENABLED=0 "$work/emulator/bin/ministack" >"$work/emulator.log" 2>&1 &
echo $! >"$work/pid"
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$(cat "$work/pid")" && sleep 0.2; done

AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_DEFAULT_REGION=eu-west-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test \
  "$work/emulator/bin/python" - <<'PY'
import io
import json
import zipfile

import boto3

CODE = """
calls = 0

def count(event, context):
    global calls
    calls += 1
    if event["fails"]:
        raise ValueError("this order is refused")
    return calls
"""

functions = boto3.client("lambda")
archive = io.BytesIO()
with zipfile.ZipFile(archive, "w") as file:
    file.writestr("app.py", CODE)
functions.create_function(
    FunctionName="count",
    Runtime="python3.12",
    Handler="app.count",
    Role="arn:aws:iam::000000000000:role/count",
    Code={"ZipFile": archive.getvalue()},
    Timeout=30,
)
seen = []
for fails in (False, False, True, False, False):
    call = functions.invoke(FunctionName="count", Payload=json.dumps({"fails": fails}))
    answer = json.load(call["Payload"])
    seen.append(answer["errorType"] if call.get("FunctionError") else answer)
print("calls, as the function counts them:", seen)
assert seen == [1, 2, "Runtime.HandlerError", 1, 2]
PY
