#!/usr/bin/env bash
# aws-lambda-powertools 3.37.0: behind an HTTP API a header that is declared as a list is refused when it has one value.
#
# Payload 2.0 joins repeated headers with commas. With enable_validation the resolver splits the text at a comma, but
# hands a text without one over as a text: for a parameter typed list[str] that is 422, "list_type". So the most common
# request, one value, fails and two pass. It is the resolver of HTTP APIs alone: behind a REST API, and for a query
# parameter of the same type, one value is a list of one. Code that moves from REST to HTTP API breaks there.
#
# Seen: header "a": 422; header "a,b": 200 ["a","b"]; query parameter "a": 200 ["a"]; REST API, header "a": 200 ["a"].
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check aws-lambda-powertools==3.37.0 pydantic==2.13.4

"$work/venv/bin/python" -W ignore - <<'PY'
import json
from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, APIGatewayRestResolver
from aws_lambda_powertools.event_handler.openapi.params import Header, Query

http, rest = APIGatewayHttpResolver(enable_validation=True), APIGatewayRestResolver(enable_validation=True)


@http.get("/header")
@rest.get("/header")
def header(x_tag: Annotated[list[str], Header(alias="x-tag")]) -> list[str]:
    return x_tag


@http.get("/query")
def query(tag: Annotated[list[str], Query()]) -> list[str]:
    return tag


def http_api(path, headers=None, query=None):
    request = {"http": {"method": "GET", "path": path}, "stage": "$default", "requestId": "1"}
    event = {"version": "2.0", "rawPath": path, "rawQueryString": "", "requestContext": request}
    answer = http.resolve({**event, "headers": headers or {}, "queryStringParameters": query}, None)
    return answer["statusCode"], json.loads(answer["body"])


def rest_api(path, name, value):
    event = {"path": path, "httpMethod": "GET", "requestContext": {"stage": "live", "path": path}}
    headers = {"headers": {name: value}, "multiValueHeaders": {name: [value]}}
    answer = rest.resolve({**event, **headers, "body": None, "isBase64Encoded": False}, None)
    return answer["statusCode"], json.loads(answer["body"])


one = http_api("/header", {"x-tag": "a"})
two = http_api("/header", {"x-tag": "a,b"})
parameter = http_api("/query", query={"tag": "a"})
on_rest = rest_api("/header", "x-tag", "a")
print("one:", one, "two:", two, "query parameter:", parameter, "REST API:", on_rest, sep="\n")
assert (one[0], one[1]["detail"][0]["type"]) == (422, "list_type")
assert two == (200, ["a", "b"])
assert parameter == on_rest == (200, ["a"])
PY
