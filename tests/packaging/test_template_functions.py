"""The functions and the API of the application template."""

import hashlib
import json
import re

import pytest

from tests.packaging.template import ROOT, gateway_responses, of_type, properties_of, read_template, resource

FUNCTIONS = properties_of("AWS::Lambda::Function")
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
    "UNAUTHORIZED": ("401", "unauthorized"),
    "ACCESS_DENIED": ("403", "forbidden"),
    "MISSING_AUTHENTICATION_TOKEN": ("404", "not_found"),
    "REQUEST_TOO_LARGE": ("413", "too_large"),
    "THROTTLED": ("429", "throttled"),
    "DEFAULT_4XX": (None, "bad_request"),
    "DEFAULT_5XX": (None, "internal_error"),
}


INVOCATIONS = "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions"

IN_A_DEPLOYMENT = {
    "AWS::ApiGateway::Authorizer",
    "AWS::ApiGateway::GatewayResponse",
    "AWS::ApiGateway::Method",
    "AWS::ApiGateway::Resource",
}
"""Parts of an API that reach its stage with a new deployment only."""


def test_functions_are_named_as_the_pipelines_call_them() -> None:
    assert {name: function["FunctionName"] for name, function in FUNCTIONS.items()} == NAMES


def test_functions_run_on_python_3_12_on_arm() -> None:
    for name, function in FUNCTIONS.items():
        assert (function["Runtime"], function["Architectures"]) == ("python3.12", ["arm64"]), name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_a_time_out_that_fits_its_caller(name: str) -> None:
    assert FUNCTIONS[name]["Timeout"] == SECONDS[name]
    assert 128 <= FUNCTIONS[name]["MemorySize"] <= 1024


@pytest.mark.parametrize("name", FUNCTIONS)
def test_handler_names_a_function_of_the_code(name: str) -> None:
    module, _, function = FUNCTIONS[name]["Handler"].rpartition(".")
    source = ROOT / f"{module.replace('.', '/')}.py"
    assert re.search(rf"^(async )?def {function}\(", source.read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_makefile_fills_the_function(name: str) -> None:
    assert of_type("AWS::Lambda::Function")[name]["Metadata"] == {"BuildMethod": "makefile"}
    assert FUNCTIONS[name]["Code"] == "../../lambdas", "seen from infra/stacks"
    targets = re.findall(r"^(build-.*):$", (LAMBDAS / "Makefile").read_text(), re.MULTILINE)
    assert f"build-{name}" in " ".join(targets).split()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_environment_holds_what_the_code_reads(name: str) -> None:
    given = set(FUNCTIONS[name]["Environment"]["Variables"])
    package = LAMBDAS / FUNCTIONS[name]["Handler"].split(".")[1]
    handler = ROOT / f"{FUNCTIONS[name]['Handler'].rpartition('.')[0].replace('.', '/')}.py"
    read = set(READS.findall(handler.read_text()))
    assert read <= given
    assert {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_LOG_LEVEL"} <= given
    everywhere = set().union(*(READS.findall(path.read_text()) for path in package.rglob("*.py")))
    own = {variable for variable in given if not variable.startswith("POWERTOOLS_")}
    assert own <= everywhere, "nothing reads them"


def test_every_log_group_forgets_after_the_same_time() -> None:
    groups = properties_of("AWS::Logs::LogGroup")
    assert all(group["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups.values())
    for name, function in FUNCTIONS.items():
        group = groups.pop(function["LoggingConfig"]["LogGroup"]["Ref"])
        assert group["LogGroupName"] == f"/aws/lambda/{NAMES[name]}", "a group of its own, of the usual name"
    assert set(groups) == {"OrdersApiAccessLogs", "EventsApiAccessLogs"}


def test_every_path_of_the_api_asks_the_authorizer() -> None:
    authorizer = resource("OrdersApiAuthorizer")
    assert authorizer["AuthorizerUri"] == {"Fn::Sub": f"{INVOCATIONS}/${{OrdersApiAuthorizerFunction.Arn}}/invocations"}
    assert (authorizer["Type"], authorizer["AuthorizerResultTtlInSeconds"]) == ("REQUEST", 60)
    assert authorizer["IdentitySource"] == "method.request.header.Authorization"
    ((_, paths),) = properties_of("AWS::ApiGateway::Resource").items()
    assert (paths["PathPart"], paths["ParentId"]) == ("orders", {"Fn::GetAtt": "OrdersApi.RootResourceId"})
    ((_, method),) = properties_of("AWS::ApiGateway::Method").items()
    assert (method["HttpMethod"], method["ResourceId"]) == ("POST", {"Ref": "OrdersResource"})
    assert (method["AuthorizationType"], method["AuthorizerId"]) == ("CUSTOM", {"Ref": "OrdersApiAuthorizer"})
    assert method["Integration"] == {
        "Type": "AWS_PROXY",
        "IntegrationHttpMethod": "POST",
        "Uri": {"Fn::Sub": f"{INVOCATIONS}/${{OrdersApiFunction.Arn}}/invocations"},
    }
    assert "Body" not in resource("OrdersApi"), "paths that are named nowhere else"


def test_api_gateway_may_call_both_functions_for_this_api_only() -> None:
    sources = {
        item["FunctionName"]["Ref"]: item["SourceArn"]["Fn::Sub"].partition(":${OrdersApi}")[2]
        for item in properties_of("AWS::Lambda::Permission").values()
        if item["Principal"] == "apigateway.amazonaws.com"
    }
    assert sources["OrdersApiFunction"] == "/*/POST/orders"
    assert sources["OrdersApiAuthorizerFunction"] == "/authorizers/${OrdersApiAuthorizer}"


def test_deployment_is_a_new_one_whenever_the_api_changes() -> None:
    parts = {
        name: item["Properties"]
        for name, item in read_template()["Resources"].items()
        if item["Type"] in IN_A_DEPLOYMENT or name == "OrdersApi"
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
    ((name, deployment),) = of_type("AWS::ApiGateway::Deployment").items()
    assert name == f"OrdersApiDeployment{digest}", "the API has changed: give its deployment this name"
    assert set(deployment["DependsOn"]) == set(parts) - {"OrdersApi", "OrdersResource", "OrdersApiAuthorizer"}
    assert resource("OrdersApiStage")["DeploymentId"] == {"Ref": name}


def test_stage_is_throttled() -> None:
    stage = resource("OrdersApiStage")
    assert stage["StageName"] == "prod"
    (settings,) = stage["MethodSettings"]
    assert (settings["ResourcePath"], settings["HttpMethod"]) == ("/*", "*")
    assert settings["ThrottlingRateLimit"] == {"Ref": "OrdersApiRateLimit"}
    assert settings["ThrottlingBurstLimit"] == {"Ref": "OrdersApiBurstLimit"}


def test_access_is_logged_without_what_callers_send() -> None:
    stage = resource("OrdersApiStage")
    assert stage["AccessLogSetting"]["DestinationArn"] == {"Fn::GetAtt": "OrdersApiAccessLogs.Arn"}
    assert json.loads(stage["AccessLogSetting"]["Format"]) == LOGGED
    assert "\n" not in stage["AccessLogSetting"]["Format"], "API Gateway takes one line"
    (settings,) = stage["MethodSettings"]
    assert (settings["LoggingLevel"], settings["DataTraceEnabled"]) == ("OFF", False)


def test_api_gateway_may_write_logs_before_the_stage_is_made() -> None:
    assert read_template()["Resources"]["OrdersApiStage"]["DependsOn"] == "ApiGatewayAccount"
    assert resource("ApiGatewayAccount")["CloudWatchRoleArn"] == {"Fn::GetAtt": "ApiGatewayLogsRole.Arn"}
    for name in ("ApiGatewayAccount", "ApiGatewayLogsRole"):
        item = read_template()["Resources"][name]
        assert item["DeletionPolicy"] == "Retain", "other APIs of the account may use it by then"


def test_what_api_gateway_answers_by_itself_has_the_form_of_the_api() -> None:
    responses = gateway_responses()
    assert set(responses) == set(ANSWERS)
    for kind, response in responses.items():
        status, code = ANSWERS[kind]
        assert response.get("StatusCode") == status, kind
        assert response["RestApiId"] == {"Ref": "OrdersApi"}
        error = json.loads(response["ResponseTemplates"]["application/json"])["error"]
        assert list(error) == ["code", "message", "details", "request_id"], kind
        assert (error["code"], error["details"], error["request_id"]) == (code, [], "$context.requestId"), kind
        assert "$" not in error["message"], f"{kind}: a constant text gives nothing away"
    headers = {kind: item["ResponseParameters"] for kind, item in responses.items() if "ResponseParameters" in item}
    assert headers == {
        "UNAUTHORIZED": {"gatewayresponse.header.WWW-Authenticate": "'Bearer'"},
        "THROTTLED": {"gatewayresponse.header.Retry-After": "'1'"},
    }
