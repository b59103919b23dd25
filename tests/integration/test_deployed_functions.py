"""The functions as they run after a deployment: they start, and the API lets in whom it should."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import jwt
import pytest

from tests.integration.conftest import Aws
from tests.integration.deployed_api import CALL_SECONDS, TLS, eventually

RECORD = {"record_id": "smoke-1", "parameter_1": "first", "parameter_2": 2.1}


def token(aws: Aws, name: str, *, audience: str = "orders-api") -> str:
    key = aws.secrets.get_secret_value(SecretId=name)["SecretString"]
    now = int(time.time())
    return jwt.encode({"sub": "smoke", "aud": audience, "iat": now, "exp": now + 600}, key, algorithm="HS256")


def post(url: str, authorization: str | None, *, body: object = None, path: str = "/orders") -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return httpx.post(f"{url}{path}", json=[RECORD] if body is None else body, headers=headers, timeout=30)


def test_api_refuses_in_its_own_words(aws: Aws, outputs: Mapping[str, str], orders_api_url: str) -> None:
    secret = outputs["OrdersJwtSecretName"]
    refusals = {
        "unauthorized": (401, post(orders_api_url, None)),
        "forbidden": (403, post(orders_api_url, f"Bearer {token(aws, secret, audience='events-api')}")),
        "not_found": (404, post(orders_api_url, f"Bearer {token(aws, secret)}", path="/elsewhere")),
    }
    for code, (status, answer) in refusals.items():
        assert answer.status_code == status, code
        error = answer.json()["error"]
        assert set(error) == {"code", "message", "details", "request_id"}
        assert (error["code"], error["details"]) == (code, [])
        assert error["request_id"] == answer.headers["x-amzn-requestid"]
    assert refusals["unauthorized"][1].headers["www-authenticate"] == "Bearer"


def test_no_method_of_the_api_is_open(aws: Aws, outputs: Mapping[str, str]) -> None:
    api = outputs["OrdersApiId"]
    resources = aws.apigateway.get_resources(restApiId=api, embed=["methods"])["items"]
    methods = {
        (item["path"], verb): method for item in resources for verb, method in item.get("resourceMethods", {}).items()
    }
    assert set(methods) == {("/orders", "POST")}
    (authorizer,) = aws.apigateway.get_authorizers(restApiId=api)["items"]
    assert (authorizer["type"], authorizer["authorizerResultTtlInSeconds"]) == ("REQUEST", 60)
    assert authorizer["identitySource"] == "method.request.header.Authorization"
    for method in methods.values():
        assert (method["authorizationType"], method["authorizerId"]) == ("CUSTOM", authorizer["id"])


def test_no_route_of_the_events_api_is_open_but_health_and_what_is_not_there(
    aws: Aws, outputs: Mapping[str, str]
) -> None:
    create: Callable[..., Any] = aws.session().client
    gateway = create("apigatewayv2", endpoint_url=aws.endpoint)
    api = outputs["EventsApiId"]
    (authorizer,) = gateway.get_authorizers(ApiId=api)["Items"]
    assert authorizer["AuthorizerResultTtlInSeconds"] == 0
    routes = {route["RouteKey"]: route for route in gateway.get_routes(ApiId=api)["Items"]}
    assert len(routes) == 12
    for key, route in routes.items():
        if key in ("GET /health", "$default"):
            assert route["AuthorizationType"] == "NONE"
        else:
            assert (route["AuthorizationType"], route["AuthorizerId"]) == ("CUSTOM", authorizer["AuthorizerId"])


@pytest.fixture
def one_request_a_second(aws: Aws, outputs: Mapping[str, str]) -> Iterator[None]:
    """The stage with a limit that a test can reach."""
    stage = {"restApiId": outputs["OrdersApiId"], "stageName": "prod"}
    before = aws.apigateway.get_stage(**stage)["methodSettings"]["*/*"]
    _limit(aws, stage, rate=1.0, burst=1)
    yield
    _limit(aws, stage, rate=before["throttlingRateLimit"], burst=before["throttlingBurstLimit"])


def _limit(aws: Aws, stage: Mapping[str, str], *, rate: float, burst: int) -> None:
    values = {"/*/*/throttling/rateLimit": str(rate), "/*/*/throttling/burstLimit": str(burst)}
    changes = [{"op": "replace", "path": path, "value": value} for path, value in values.items()]
    aws.apigateway.update_stage(**stage, patchOperations=changes)


@pytest.mark.usefixtures("one_request_a_second")
def test_throttled_request_is_told_when_to_come_back(aws: Aws, outputs: Mapping[str, str], orders_api_url: str) -> None:
    headers = {"Authorization": f"Bearer {token(aws, outputs['OrdersJwtSecretName'])}"}
    throttled: list[httpx.Response] = []
    with httpx.Client(timeout=CALL_SECONDS, verify=TLS) as client, ThreadPoolExecutor(10) as callers:

        def ten_at_once_are_too_many() -> bool:
            send = partial(client.post, f"{orders_api_url}/orders", json=[RECORD], headers=headers)
            answers = [call.result() for call in [callers.submit(send) for _ in range(10)]]
            assert {answer.status_code for answer in answers} <= {201, 429}
            throttled.extend(answer for answer in answers if answer.status_code == 429)
            return bool(throttled)

        # On a slow machine, ten requests may take more than ten seconds.
        eventually("a request is refused under a limit of one a second", ten_at_once_are_too_many)
    assert throttled[0].json()["error"]["code"] == "throttled"
    assert throttled[0].headers["retry-after"] == "1"
