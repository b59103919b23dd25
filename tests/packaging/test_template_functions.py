"""The functions and the API of the application template."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.packaging.template import ROOT, of_type, properties_of, read_template, resource

FUNCTIONS = properties_of("AWS::Serverless::Function")
LAMBDAS = ROOT / "lambdas"

SECONDS = {
    "AuctionResultsFunction": 30,
    "AuctionOrderFunction": 30,
    # API Gateway gives up after 29 s, an HTTP API after 30, the time to start a function included, and after 10 s on an
    # authorizer.
    "OrdersApiFunction": 27,
    "OrdersApiAuthorizerFunction": 10,
    "EventsApiFunction": 27,
    "EventsApiAuthorizerFunction": 10,
}
NAMES = {
    "AuctionResultsFunction": "auction-results",
    "AuctionOrderFunction": "auction-order",
    "OrdersApiFunction": "orders-api",
    "OrdersApiAuthorizerFunction": "orders-api-authorizer",
    "EventsApiFunction": "events-api",
    "EventsApiAuthorizerFunction": "events-api-authorizer",
}
READS = re.compile(r'environment\.\w+\(\s*"(\w+)"')

LOGGED = {
    "request_id": "$context.requestId",
    "time": "$context.requestTimeEpoch",
    "ip": "$context.identity.sourceIp",
    "method": "$context.httpMethod",
    "resource": "$context.resourcePath",
    "status": "$context.status",
    "error": "$context.error.responseType",
    "latency_ms": "$context.responseLatency",
    "function_status": "$context.integration.status",
    "function_latency_ms": "$context.integrationLatency",
    "authorizer_latency_ms": "$context.authorizer.latency",
    "response_bytes": "$context.responseLength",
}
"""The access log: nothing that a caller can choose, beside the method."""

ANSWERS = {
    "UNAUTHORIZED": (401, "unauthorized"),
    "ACCESS_DENIED": (403, "forbidden"),
    "MISSING_AUTHENTICATION_TOKEN": (404, "not_found"),
    "REQUEST_TOO_LARGE": (413, "too_large"),
    "THROTTLED": (429, "throttled"),
    "DEFAULT_4XX": (None, "bad_request"),
    "DEFAULT_5XX": (None, "internal_error"),
}


def test_functions_are_named_as_the_pipelines_call_them() -> None:
    assert {name: function["FunctionName"] for name, function in FUNCTIONS.items()} == NAMES


def test_functions_run_on_python_3_12_on_arm() -> None:
    common = read_template()["Globals"]["Function"]
    assert (common["Runtime"], common["Architectures"]) == ("python3.12", ["arm64"])
    for name, function in FUNCTIONS.items():
        assert not {"Runtime", "Architectures", "CodeUri"} & set(function), f"{name} differs from the others"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_a_time_out_that_fits_its_caller(name: str) -> None:
    assert FUNCTIONS[name]["Timeout"] == SECONDS[name]
    assert 128 <= FUNCTIONS[name]["MemorySize"] <= 1024


@pytest.mark.parametrize("name", FUNCTIONS)
def test_handler_is_there(name: str) -> None:
    module, _, function = FUNCTIONS[name]["Handler"].rpartition(".")
    source = ROOT / f"{module.replace('.', '/')}.py"
    assert re.search(rf"^(async )?def {function}\(", source.read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_makefile_fills_the_function(name: str) -> None:
    assert of_type("AWS::Serverless::Function")[name]["Metadata"] == {"BuildMethod": "makefile"}
    targets = re.findall(r"^(build-.*):$", (LAMBDAS / "Makefile").read_text(), re.MULTILINE)
    assert f"build-{name}" in " ".join(targets).split()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_environment_holds_what_the_code_reads(name: str) -> None:
    given = {*FUNCTIONS[name]["Environment"]["Variables"], *_common_variables()}
    package = LAMBDAS / FUNCTIONS[name]["Handler"].split(".")[1]
    handler = ROOT / f"{FUNCTIONS[name]['Handler'].rpartition('.')[0].replace('.', '/')}.py"
    read = set(READS.findall(handler.read_text()))
    assert read <= given
    assert {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_LOG_LEVEL"} <= given
    everywhere = set().union(*(READS.findall(path.read_text()) for path in package.rglob("*.py")))
    own = {variable for variable in given if not variable.startswith("POWERTOOLS_")}
    assert own <= everywhere, "nothing reads them"


def _common_variables() -> dict[str, Any]:
    variables = read_template()["Globals"]["Function"]["Environment"]["Variables"]
    assert isinstance(variables, dict)
    return variables


def test_every_log_group_forgets_after_the_same_time() -> None:
    groups = properties_of("AWS::Logs::LogGroup")
    assert all(group["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups.values())
    for name, function in FUNCTIONS.items():
        group = groups.pop(function["LoggingConfig"]["LogGroup"]["Ref"])
        assert group["LogGroupName"] == f"/aws/lambda/{NAMES[name]}", "a group of its own, of the usual name"
    assert set(groups) == {"OrdersApiAccessLogs", "EventsApiAccessLogs"}


def test_every_path_of_the_api_asks_the_authorizer() -> None:
    auth = resource("OrdersApi")["Auth"]
    (name,) = auth["Authorizers"]
    assert auth["DefaultAuthorizer"] == name
    authorizer = auth["Authorizers"][name]
    assert authorizer["FunctionArn"] == {"Fn::GetAtt": "OrdersApiAuthorizerFunction.Arn"}
    assert authorizer["FunctionPayloadType"] == "REQUEST"
    assert authorizer["Identity"] == {"Headers": ["Authorization"], "ReauthorizeEvery": 60}
    events = [event for function in FUNCTIONS.values() for event in function.get("Events", {}).values()]
    assert [(event["Properties"]["Method"], event["Properties"]["Path"]) for event in events] == [("POST", "/orders")]
    assert all("Auth" not in event["Properties"] for event in events), "an event of its own authorizer, or of none"
    assert "DefinitionBody" not in resource("OrdersApi"), "paths that SAM knows nothing of"


def test_stage_is_throttled() -> None:
    api = resource("OrdersApi")
    assert api["StageName"] == "prod"
    (settings,) = api["MethodSettings"]
    assert (settings["ResourcePath"], settings["HttpMethod"]) == ("/*", "*")
    assert settings["ThrottlingRateLimit"] == {"Ref": "OrdersApiRateLimit"}
    assert settings["ThrottlingBurstLimit"] == {"Ref": "OrdersApiBurstLimit"}


def test_access_is_logged_without_what_callers_send() -> None:
    api = resource("OrdersApi")
    assert api["AccessLogSetting"]["DestinationArn"] == {"Fn::GetAtt": "OrdersApiAccessLogs.Arn"}
    assert json.loads(api["AccessLogSetting"]["Format"]) == LOGGED
    assert "\n" not in api["AccessLogSetting"]["Format"], "API Gateway takes one line"
    (settings,) = api["MethodSettings"]
    assert (settings["LoggingLevel"], settings["DataTraceEnabled"]) == ("OFF", False)


def test_api_gateway_may_write_logs_before_the_stage_is_made() -> None:
    assert read_template()["Resources"]["OrdersApi"]["DependsOn"] == "ApiGatewayAccount"
    assert resource("ApiGatewayAccount")["CloudWatchRoleArn"] == {"Fn::GetAtt": "ApiGatewayLogsRole.Arn"}
    for name in ("ApiGatewayAccount", "ApiGatewayLogsRole"):
        item = read_template()["Resources"][name]
        assert item["DeletionPolicy"] == "Retain", "other APIs of the account may use it by then"


def test_what_api_gateway_answers_by_itself_has_the_form_of_the_api() -> None:
    responses = resource("OrdersApi")["GatewayResponses"]
    assert set(responses) == set(ANSWERS)
    for kind, response in responses.items():
        status, code = ANSWERS[kind]
        assert response.get("StatusCode") == status, kind
        error = json.loads(response["ResponseTemplates"]["application/json"])["error"]
        assert list(error) == ["code", "message", "details", "request_id"], kind
        assert (error["code"], error["details"], error["request_id"]) == (code, [], "$context.requestId"), kind
        assert "$" not in error["message"], f"{kind}: a constant text gives nothing away"
    headers = {kind: item["ResponseParameters"]["Headers"] for kind, item in responses.items() if len(item) == 3}
    assert headers == {"UNAUTHORIZED": {"WWW-Authenticate": "'Bearer'"}, "THROTTLED": {"Retry-After": "'1'"}}
