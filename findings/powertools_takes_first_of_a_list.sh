#!/usr/bin/env bash
# aws-lambda-powertools 3.37.0: a list of two orders, sent where one order is declared, is 200; the second one is lost.
#
# With enable_validation the body is checked against the model of the handler's parameter. Where the model is no list
# and the JSON is one, the resolver takes the first element and drops the rest, before the check; a field of an embedded
# body is treated the same way. The other elements are neither validated nor logged. A client that batches by mistake,
# or by the API's next version, gets an answer of success for all; the OpenAPI document, made from the same handler,
# says "object", and pydantic itself refuses the list. An empty list is 422.
#
# Seen: [1, 2] and [1, {"nothing": "valid"}]: 200 with order 1; embedded, [1, 2]: 200 with order 1; []: 422; pydantic:
# ValidationError.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.12 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check aws-lambda-powertools==3.37.0 pydantic==2.13.4

"$work/venv/bin/python" -W ignore - <<'PY'
import json
from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.event_handler.openapi.params import Body
from pydantic import BaseModel, ValidationError

app = APIGatewayHttpResolver(enable_validation=True)


class Order(BaseModel):
    order: int


@app.post("/orders")
def store(new: Order) -> Order:
    return new


@app.post("/embedded")
def store_embedded(new: Annotated[Order, Body(embed=True)]) -> Order:
    return new


def post(path, body):
    request = {"http": {"method": "POST", "path": path}, "stage": "$default", "requestId": "1"}
    event = {"version": "2.0", "rawPath": path, "rawQueryString": "", "requestContext": request}
    headers = {"content-type": "application/json"}
    answer = app.resolve({**event, "headers": headers, "body": json.dumps(body), "isBase64Encoded": False}, None)
    return int(answer["statusCode"]), json.loads(answer["body"])


first, second = {"order": 1}, {"order": 2}
two = post("/orders", [first, second])
invalid = post("/orders", [first, {"nothing": "valid"}])
embedded = post("/embedded", {"new": [first, second]})
none = post("/orders", [])
document = json.loads(app.get_openapi_json_schema())
schema = document["paths"]["/orders"]["post"]["requestBody"]["content"]["application/json"]["schema"]
declared = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]["type"]
try:
    by_pydantic = Order.model_validate([first, second])
except ValidationError as error:
    by_pydantic = type(error)
print("two:", two, "one and an invalid one:", invalid, "embedded, two:", embedded, sep="\n")
print("none:", none[0], "OpenAPI:", declared, "pydantic:", by_pydantic)
assert two == invalid == embedded == (200, first)
assert none[0] == 422
assert declared == "object"
assert by_pydantic is ValidationError
PY
