#!/usr/bin/env bash
# MiniStack 1.5.33, aws-lambda-powertools 3.37.0: behind a stage with a name Powertools finds no route of an HTTP API.
#
# API Gateway's rawPath begins with the stage, unless that is $default, and Powertools cuts that many characters off.
# The emulator's rawPath is without the stage, so the cut goes into the path itself: /items/1 becomes s/1, each route
# answers 404, and a path that happens to be longer reaches another route. Cookies, which API Gateway takes out of the
# headers and puts into a list of their own, stay in the headers and are in no list. What serves both is the stage
# $default, and cookies looked for in both places.
#
# Seen: $default /items/1: 200 "1"; live /items/1: 404; live /gone/items/7: 200 "7"; cookies [], header cookie "a=1".
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" || true; rm -rf "$work"' EXIT
python3.12 -m venv "$work/emulator"
"$work/emulator/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt \
  ministack==1.5.33 boto3==1.43.102 aws-lambda-powertools==3.37.0
port=$(python3.12 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
BIND_HOST=127.0.0.1 GATEWAY_PORT=$port IOT_MTLS_ENABLED=0 "$work/emulator/bin/ministack" >"$work/emulator.log" 2>&1 &
echo $! >"$work/pid"
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$(cat "$work/pid")" && sleep 0.2; done

AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_DEFAULT_REGION=eu-west-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test \
  "$work/emulator/bin/python" - <<'PY'
import io
import json
import os
import urllib.error
import urllib.request
import zipfile

import boto3

CODE = """
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver

app = APIGatewayHttpResolver()


@app.get("/items/<item>")
def get(item):
    event = app.current_event
    return {"item": item, "rawPath": event.raw_path, "cookies": event.cookies, "header": event.headers.get("cookie")}


def handler(event, context):
    return app.resolve(event, context)
"""
archive = io.BytesIO()
with zipfile.ZipFile(archive, "w") as file:
    file.writestr("app.py", CODE)
function = boto3.client("lambda").create_function(
    FunctionName="items",
    Runtime="python3.12",
    Handler="app.handler",
    Timeout=20,
    Role="arn:aws:iam::000000000000:role/any",
    Code={"ZipFile": archive.getvalue()},
)
apis = boto3.client("apigatewayv2")
api = apis.create_api(Name="items", ProtocolType="HTTP")["ApiId"]
integration = apis.create_integration(
    ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=function["FunctionArn"], PayloadFormatVersion="2.0"
)
apis.create_route(ApiId=api, RouteKey="GET /{path+}", Target=f"integrations/{integration['IntegrationId']}")
for stage in ("$default", "live"):
    apis.create_stage(ApiId=api, StageName=stage, AutoDeploy=True)


def get(stage, path):
    address = f"{os.environ['AWS_ENDPOINT_URL']}/_aws/execute-api/{api}/{stage}{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers={"Cookie": "a=1"})) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


default = get("$default", "/items/1")
named = get("live", "/items/1")
other = get("live", "/gone/items/7")
print("$default /items/1:", default, "live /items/1:", named, "live /gone/items/7:", other, sep="\n")
assert default == (200, {"item": "1", "rawPath": "/items/1", "cookies": [], "header": "a=1"})
assert named[0] == 404
assert other == (200, {"item": "7", "rawPath": "/gone/items/7", "cookies": [], "header": "a=1"})
PY
