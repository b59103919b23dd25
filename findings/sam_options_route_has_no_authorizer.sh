#!/usr/bin/env bash
# aws-sam-translator 1.113.0: the default authorizer of an HTTP API does not cover a route for OPTIONS.
#
# DefaultAuthorizer is documented as the authorizer of the calls of an API. SAM leaves it off each route whose method
# is OPTIONS, also without CORS, so that the function behind it answers anybody; a browser's preflight is why, but
# nothing is said. For a REST API the same template has the authorizer on OPTIONS, and an HTTP API's ANY, which takes
# OPTIONS too, has it as well. So a move from REST to HTTP API, or from ANY to a list of methods, opens one route. An
# event that names the authorizer itself keeps it.
#
# Seen, security of OPTIONS /a, GET /a, ANY /b and of OPTIONS /c with an authorizer of its own: HTTP API: none, L, L,
# L; REST API: L, L, L, L.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check -c ../requirements/emulator.txt \
  aws-sam-translator==1.113.0

AWS_DEFAULT_REGION=eu-west-1 "$work/venv/bin/python" -W ignore - 2>"$work/log" <<'PY'
from samtranslator.translator.transform import transform

AUTHORIZER = "arn:aws:lambda:eu-west-1:123456789012:function:authorizer"


class Policies:
    def load(self):
        return {"AWSLambdaBasicExecutionRole": "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"}


def security(kind, reference, payload, **api):
    """Which authorizer each route of the transformed API has."""
    identity = {"Headers": ["Authorization"]}
    authorizers = {"L": {"FunctionArn": AUTHORIZER, "Identity": identity, **payload}}
    auth = {"DefaultAuthorizer": "L", "Authorizers": authorizers}
    routes = [("options", "/a", {}), ("get", "/a", {}), ("any", "/b", {}), ("options", "/c", {"Authorizer": "L"})]
    events = {}
    for number, (method, path, own) in enumerate(routes):
        route = {"Path": path, "Method": method, reference: {"Ref": "Orders"}, "Auth": own}
        events[f"Route{number}"] = {"Type": kind, "Properties": route}
    function = {"Runtime": "python3.12", "Handler": "app.answer", "CodeUri": "s3://bucket/key", "Events": events}
    resources = {
        "Orders": {"Type": f"AWS::Serverless::{kind}", "Properties": {"Auth": auth, **api}},
        "Answer": {"Type": "AWS::Serverless::Function", "Properties": function},
    }
    made = transform({"Transform": "AWS::Serverless-2016-10-31", "Resources": resources}, {}, Policies())
    paths = made["Resources"]["Orders"]["Properties"]["Body"]["paths"]
    return [paths[path][method.replace("any", "x-amazon-apigateway-any-method")].get("security")
            for method, path, _ in routes]


http = security("HttpApi", "ApiId", {"AuthorizerPayloadFormatVersion": "2.0"})
rest = security("Api", "RestApiId", {"FunctionPayloadType": "REQUEST"}, StageName="live")
print("HTTP API:", http, "REST API:", rest, sep="\n")
authorizer = [{"L": []}]
assert http == [None, authorizer, authorizer, authorizer]
assert rest == [authorizer] * 4
PY
