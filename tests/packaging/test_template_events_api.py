"""The events API of the application template: its parts are named one by one, so each could be forgotten."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lambdas.events_api.lanes import lane_key
from lambdas.events_api.models import is_event_id
from local.services.emulator import CORS
from tests.packaging.template import ROOT, as_list, properties_of, read_template, resource, statements, statements_of

ROUTES = {route["RouteKey"]: route for route in properties_of("AWS::ApiGatewayV2::Route").values()}
CODE = ROOT / "lambdas" / "events_api"
DOCUMENT = json.loads((ROOT / "docs" / "openapi" / "events_api.json").read_text(encoding="utf-8"))

OPEN = {"GET /health", "$default"}
"""Routes that ask for no key; the second is for what the API does not have."""

STATIC = {"GET /openapi.json", "GET /docs"}
"""Open routes that need none of their own: $default passes them on, and its limits are right for them."""

HEADS = {key for key in ROUTES if key.startswith("HEAD ")}

LOGGED = {
    "request_id": "$context.requestId",
    "time": "$context.requestTimeEpoch",
    "ip": "$context.identity.sourceIp",
    "route": "$context.routeKey",
    "status": "$context.status",
    "error": "$context.error.responseType",
    "owner": "$context.authorizer.owner",
    "denied": "$context.authorizer.denied",
    "latency_ms": "$context.responseLatency",
    "function_status": "$context.integration.status",
    "function_latency_ms": "$context.integrationLatency",
    "response_bytes": "$context.responseLength",
}
"""The access log: nothing that a caller can choose."""

OPEN_ROUTE = re.compile(r'^@route\("([A-Z]+)", "([^"]+)", needs_key=False\)', re.MULTILINE)
GUARDED_ROUTE = re.compile(r'^@route\("([A-Z]+)", "([^"]+)"\)', re.MULTILINE)
CALLED = re.compile(r'\b_?(?:aws\(")?(dynamodb|sqs)(?:"\))?\.(\w+)\(')
SIGNED = re.compile(r'\b_call\(\s*"(\w+)"')
INDEX = re.compile(r'"(by-[a-z-]+)"')

ACTIONS = {
    # The delivery's statements are all updates: see its test on the emulator.
    ("dynamodb", "batch_execute_statement"): "dynamodb:PartiQLUpdate",
    ("dynamodb", "batch_get_item"): "dynamodb:BatchGetItem",
    ("dynamodb", "delete_item"): "dynamodb:DeleteItem",
    ("dynamodb", "get_item"): "dynamodb:GetItem",
    ("dynamodb", "put_item"): "dynamodb:PutItem",
    ("dynamodb", "query"): "dynamodb:Query",
    ("dynamodb", "scan"): "dynamodb:Scan",
    # The one transaction deletes.
    ("dynamodb", "transact_write_items"): "dynamodb:DeleteItem",
    ("dynamodb", "update_item"): "dynamodb:UpdateItem",
    ("sqs", "get_queue_attributes"): "sqs:GetQueueAttributes",
    ("sqs", "delete_message_batch"): "sqs:DeleteMessage",
    ("sqs", "receive_message"): "sqs:ReceiveMessage",
    ("sqs", "send_message"): "sqs:SendMessage",
}
"""What IAM calls the calls."""

CALLERS = {
    "EventsApiFunctionRole": [path for path in sorted(CODE.glob("*.py")) if path.name != "api_keys.py"],
    "EventsApiAuthorizerFunctionRole": [CODE / "api_keys.py"],
    "EventDeliveryPolicy": [
        *sorted((ROOT / "include" / "delivery").glob("*.py")),
        ROOT / "plugins" / "airflow_ext" / "triggers" / "sqs_wakeup.py",
        *(ROOT / "plugins" / "airflow_ext" / "operations" / "views" / f"{view}.py" for view in ("events", "tonight")),
    ],
}
"""The code that each policy is for."""


def _source(paths: list[Path]) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def _allowed(name: str) -> set[tuple[str, str]]:
    """Action and resource of what a policy allows on tables and queues."""
    return {
        (action, next(iter(item.values())))
        for owner, statement in statements()
        if owner == name
        for action in as_list(statement["Action"])
        for item in as_list(statement.get("Resource", []))
        if action.startswith(("dynamodb:", "sqs:"))
    }


def _routes_in_code(decorator: re.Pattern[str]) -> set[str]:
    found = decorator.findall((CODE / "handler.py").read_text(encoding="utf-8"))
    return {f"{method.upper()} {path.replace('<', '{').replace('>', '}')}" for method, path in found}


def test_routes_are_those_of_the_code_and_of_the_document() -> None:
    in_code = _routes_in_code(OPEN_ROUTE) | _routes_in_code(GUARDED_ROUTE)
    documented = {
        f"{method.upper()} {path}"
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        if "operationId" in operation
    }
    assert set(ROUTES) - {"$default"} - HEADS == in_code - STATIC == documented


def test_every_route_leads_to_the_function() -> None:
    integration = resource("EventsApiIntegration")
    assert integration["IntegrationUri"] == {"Fn::GetAtt": "EventsApiFunction.Arn"}
    assert (integration["IntegrationType"], integration["PayloadFormatVersion"]) == ("AWS_PROXY", "2.0")
    for key, route in ROUTES.items():
        assert route["Target"] == {"Fn::Sub": "integrations/${EventsApiIntegration}"}, key
        assert route["ApiId"] == {"Ref": "EventsApi"}, key


def test_every_route_but_the_open_ones_asks_the_authorizer() -> None:
    guarded = {key: route for key, route in ROUTES.items() if key not in OPEN}
    in_code = _routes_in_code(GUARDED_ROUTE)
    heads = {key.replace("GET", "HEAD") for key in in_code if key.startswith("GET ")}
    assert set(guarded) == in_code | heads, "the function needs an owner that only the authorizer knows"
    assert _routes_in_code(OPEN_ROUTE) - STATIC | {"$default"} == OPEN
    for key, route in guarded.items():
        assert route["AuthorizationType"] == "CUSTOM", key
        assert route["AuthorizerId"] == {"Ref": "EventsApiAuthorizer"}, key
    for key in OPEN:
        assert ROUTES[key]["AuthorizationType"] == "NONE", key


def test_no_answer_of_the_authorizer_is_kept_for_another_request() -> None:
    authorizer = resource("EventsApiAuthorizer")
    assert "${EventsApiAuthorizerFunction.Arn}" in authorizer["AuthorizerUri"]["Fn::Sub"]
    assert (authorizer["AuthorizerPayloadFormatVersion"], authorizer["EnableSimpleResponses"]) == ("2.0", True)
    # With a source, API Gateway would answer by itself, and keep what it is told of one key under another's.
    assert (authorizer["IdentitySource"], authorizer["AuthorizerResultTtlInSeconds"]) == ([], 0)


def test_api_gateway_may_call_both_functions_for_this_api_only() -> None:
    permissions = properties_of("AWS::Lambda::Permission").values()
    by_function = {item["FunctionName"]["Ref"]: item for item in permissions if "Orders" not in str(item)}
    assert set(by_function) == {"EventsApiFunction", "EventsApiAuthorizerFunction"}
    for item in by_function.values():
        assert item["Principal"] == "apigateway.amazonaws.com"
        assert ":${EventsApi}/" in item["SourceArn"]["Fn::Sub"]
    assert by_function["EventsApiAuthorizerFunction"]["SourceArn"]["Fn::Sub"].endswith(
        "/authorizers/${EventsApiAuthorizer}"
    )


def test_stage_is_throttled() -> None:
    stage = resource("EventsApiStage")
    # Any other name would be a part of every path.
    assert (stage["StageName"], stage["AutoDeploy"]) == ("$default", True)
    settings = stage["DefaultRouteSettings"]
    assert settings["ThrottlingRateLimit"] == {"Ref": "EventsApiRateLimit"}
    assert settings["ThrottlingBurstLimit"] == {"Ref": "EventsApiBurstLimit"}


def test_routes_that_ask_for_no_key_have_smaller_limits_of_their_own() -> None:
    everybody, stage = read_template()["Parameters"], resource("EventsApiStage")
    assert set(stage["RouteSettings"]) == OPEN, "the limit of all others together is the stage's"
    for settings in stage["RouteSettings"].values():
        assert settings["ThrottlingRateLimit"] < everybody["EventsApiRateLimit"]["Default"]
        assert settings["ThrottlingBurstLimit"] < everybody["EventsApiBurstLimit"]["Default"]
        assert settings["DetailedMetricsEnabled"], "else its errors are not among those that are watched"
    routes = {name: route["RouteKey"] for name, route in properties_of("AWS::ApiGatewayV2::Route").items()}
    assert {routes[name] for name in read_template()["Resources"]["EventsApiStage"]["DependsOn"]} == OPEN


def test_access_is_logged_without_what_callers_send() -> None:
    log = resource("EventsApiStage")["AccessLogSettings"]
    assert log["DestinationArn"] == {"Fn::GetAtt": "EventsApiAccessLogs.Arn"}
    assert json.loads(log["Format"]) == LOGGED
    assert "\n" not in log["Format"], "API Gateway takes one line"


def test_pages_of_other_origins_may_call_only_where_somebody_said_so() -> None:
    template = read_template()
    assert template["Parameters"]["EventsApiCorsOrigins"]["Default"] == ""
    conditions = template["Conditions"]
    given, *environments = conditions["AllowsOtherOrigins"]["Fn::Or"]
    assert given == {"Condition": "HasEventsApiCorsOrigins"}
    assert environments == [{"Fn::Equals": [{"Ref": "Environment"}, name]} for name in ("dev", "local")]
    name, cors, otherwise = resource("EventsApi")["CorsConfiguration"]["Fn::If"]
    assert (name, otherwise) == ("AllowsOtherOrigins", {"Ref": "AWS::NoValue"})
    assert cors["AllowOrigins"] == {"Fn::If": ["HasEventsApiCorsOrigins", {"Ref": "EventsApiCorsOrigins"}, ["*"]]}
    assert set(cors["AllowMethods"]) == {key.split()[0] for key in ROUTES if key != "$default"}
    assert cors["ExposeHeaders"] == ["retry-after"], "a page may wait for as long as it is asked to"
    assert set(cors["AllowHeaders"]) == {"authorization", "content-type", "x-api-key"}
    assert {**cors, "AllowOrigins": ["*"]} == CORS, "the local stack has the same"
    assert not cors.get("AllowCredentials"), "keys are sent by the page's code, nothing by the browser itself"


def test_authorizer_may_write_how_often_a_key_is_used_and_nothing_by_which_it_is_checked() -> None:
    condition = statements_of("EventsApiAuthorizerFunctionRole")["CountRequests"]["Condition"]
    written = set(re.findall(r"\b(\w+_\w+)\b", " ".join(re.findall(r'"SET ([^"]+)"', _source([CODE / "api_keys.py"])))))
    assert written == {"counted_minute", "minute_requests"}
    assert set(condition["ForAllValues:StringEquals"]["dynamodb:Attributes"]) == {"key_id", *written}
    # Else an answer could show the rest of the item.
    assert condition["StringEquals"] == {"dynamodb:ReturnValues": "UPDATED_NEW"}


def test_one_key_may_not_use_up_what_all_may_call() -> None:
    parameters = read_template()["Parameters"]
    a_minute = 60 * parameters["EventsApiRateLimit"]["Default"]
    assert 0 < parameters["EventsApiKeyLimit"]["Default"] <= a_minute / 2
    variables = resource("EventsApiAuthorizerFunction")["Environment"]["Variables"]
    assert variables["REQUESTS_A_MINUTE"] == {"Ref": "EventsApiKeyLimit"}


def test_version_is_the_document_s() -> None:
    variables = resource("EventsApiFunction")["Environment"]["Variables"]
    assert variables["API_VERSION"] == DOCUMENT["info"]["version"]


@pytest.mark.parametrize("name", CALLERS)
def test_policy_allows_each_call_that_the_code_makes_and_no_other(name: str) -> None:
    source = _source(CALLERS[name])
    called = {ACTIONS[call] for call in CALLED.findall(source)}
    called |= {f"dynamodb:{operation}" for operation in SIGNED.findall(source)}
    assert {action for action, _ in _allowed(name)} == called


def test_delivery_puts_no_event_into_the_table_but_those_that_test_a_webhook() -> None:
    """An event that was deleted must not come back."""
    condition = statements_of("EventDeliveryPolicy")["KeepLanes"]["Condition"]
    assert condition == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": [lane_key("*"), "batch#*"]}}
    assert not is_event_id(lane_key("0123456789ab"))
    condition = statements_of("EventDeliveryPolicy")["TestWebhooks"]["Condition"]
    assert condition == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["evt_test*"]}}


def test_indexes_are_those_that_are_asked() -> None:
    by_name: dict[str, dict[str, Any]] = {
        index["IndexName"]: index for index in resource("EventsTable")["GlobalSecondaryIndexes"]
    }
    keys = {name: [key["AttributeName"] for key in index["KeySchema"]] for name, index in by_name.items()}
    assert keys == {
        "by-status": ["status", "next_attempt_at"],
        "by-owner": ["owner", "position"],
        "by-owner-status": ["owner_status", "position"],
        "by-idempotency-key": ["owner", "idempotency_key"],
    }
    for name in ("EventsApiFunctionRole", "EventDeliveryPolicy"):
        asked = set(INDEX.findall(_source(CALLERS[name])))
        queried = {resource.rpartition("/")[2] for action, resource in _allowed(name) if action == "dynamodb:Query"}
        assert asked == queried <= set(keys), name
    due = by_name["by-status"]["Projection"]
    assert set(due["NonKeyAttributes"]) == {"owner", "position"}, "payloads would be read to find out who is due"
    for name in ("by-owner", "by-owner-status"):
        assert by_name[name]["Projection"] == {"ProjectionType": "ALL"}, "what is shown of an event is all of it"
