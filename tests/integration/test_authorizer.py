"""Whom the deployed authorizer lets in."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Aws
from tests.integration.orders import AUTHORIZER_LOG, OrdersApi, record
from tests.worlds.tokens import HS256, claims, forge

METHOD_ARN = "arn:aws:execute-api:us-east-1:000000000000:api/prod/POST/orders"
OTHER_KEY = "k" * 64

Forger = Callable[[str], str | bytes]
"""Makes an Authorization header, given the API's key."""


@pytest.fixture
def api(aws: Aws, outputs: Mapping[str, str]) -> OrdersApi:
    return OrdersApi(aws, outputs)


def signed(**changes: Any) -> Forger:
    """Signed with the right key, but with these claims."""
    return lambda key: forge(HS256, claims(**changes), key)


def changed(change: Callable[[str], str | bytes]) -> Forger:
    """A valid token, changed afterwards."""
    return lambda key: change(forge(HS256, claims(), key))


def with_claims_of_another(token: str) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{forge(HS256, claims(sub='admin'), OTHER_KEY).split('.')[1]}.{signature}"


FORGED: dict[str, Forger] = {
    # A few of each kind, as they reach the function through the gateway; unit tests of the verification have all.
    "expired": lambda key: forge(HS256, claims(exp=int(time.time()) - 60), key),
    "other aud": signed(aud="events-api"),
    "alg none": lambda key: forge({"alg": "none"}, claims(), key).rpartition(".")[0] + ".",
    "other key": lambda _: forge(HS256, claims(), OTHER_KEY),
    "signature of other claims": changed(with_claims_of_another),
    "two tokens": changed(lambda token: f"Bearer {token} {token}"),
    "9,000 characters": changed(lambda token: f"Bearer {token}{'A' * 9_000}"),
    "scheme alone": lambda _: "Bearer",
    "bytes that are no UTF-8": lambda _: b"Bearer \xff\xfe",
}


def without_ids(answer: httpx.Response) -> tuple[bytes, set[tuple[str, str]]]:
    """Body and headers of an answer, but for what differs between any two requests."""
    request_id = answer.json()["error"]["request_id"]
    headers = {(name, value) for name, value in answer.headers.items() if name != "date" and request_id not in value}
    return answer.content.replace(request_id.encode(), b"<id>"), headers


@pytest.mark.parametrize("name", FORGED)
def test_forged_token_gets_the_same_answer_as_any_other(api: OrdersApi, name: str) -> None:
    usual = api.post([record("forged")], authorization="Bearer x")
    record_id = secrets.token_hex(8)
    answer = api.post([record(record_id)], authorization=FORGED[name](api.key()))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert without_ids(answer) == without_ids(usual)
    assert api.stored(record_id) is None


ACCEPTED: dict[str, Forger] = {
    # The same forger as above: what makes the others wrong is what they change.
    "as it should be": signed(),
    "with a scheme": changed(lambda token: f"Bearer {token}"),
    "subject in Unicode": signed(sub="J\u00f6rg \u2603"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_valid_token_is_let_in(api: OrdersApi, name: str) -> None:
    answer = api.post([record("let-in")], authorization=ACCEPTED[name](api.key()))
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}, {"Authorisation": "Bearer x"}])
def test_without_a_token_the_answer_says_so(api: OrdersApi, headers: Mapping[str, str]) -> None:
    answer = api.post([record("forged")], headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    # What makes API Gateway answer so when its own check lets the request through.
    error, failed = api.invoke("orders-api-authorizer", {"methodArn": METHOD_ARN, "headers": headers})
    assert (error["errorMessage"], failed) == ("Unauthorized", True)


@pytest.fixture
def second_path(api: OrdersApi) -> Iterator[str]:
    """Another path of the API, behind the same authorizer, that answers 200 by itself."""
    gateway, rest_api = api.aws.apigateway, {"restApiId": api.outputs["OrdersApiId"]}
    (authorizer,) = gateway.get_authorizers(**rest_api)["items"]
    root = next(item["id"] for item in gateway.get_resources(**rest_api)["items"] if item["path"] == "/")
    resource = gateway.create_resource(**rest_api, parentId=root, pathPart="second")["id"]
    method = {**rest_api, "resourceId": resource, "httpMethod": "GET"}
    gateway.put_method(**method, authorizationType="CUSTOM", authorizerId=authorizer["id"])
    gateway.put_integration(**method, type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}'})
    gateway.put_method_response(**method, statusCode="200")
    gateway.put_integration_response(**method, statusCode="200")
    gateway.create_deployment(**rest_api, stageName="prod")
    yield "/second"
    gateway.delete_resource(**rest_api, resourceId=resource)
    gateway.create_deployment(**rest_api, stageName="prod")


def test_policy_kept_from_one_path_lets_in_on_the_next(api: OrdersApi, second_path: str) -> None:
    token = api.token(sub="two-paths")
    assert api.post([record("let-in")], authorization=token).status_code == 201
    calls = sum(line.startswith("START") for line in api.log(AUTHORIZER_LOG))
    answer = httpx.get(f"{api.url}{second_path}", headers={"Authorization": token}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert sum(line.startswith("START") for line in api.log(AUTHORIZER_LOG)) == calls, "the policy was not kept"
    assert httpx.get(f"{api.url}{second_path}", headers={"Authorization": "x"}, timeout=60).status_code == 403
