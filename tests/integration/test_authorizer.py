"""Whom the deployed authorizer lets in."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.integration.orders import AUTHORIZER_LOG, OrdersApi, record
from tests.worlds.tokens import HS256, claims, forge

if TYPE_CHECKING:
    from tests.integration.conftest import Aws

METHOD_ARN = "arn:aws:execute-api:us-east-1:000000000000:api/prod/POST/orders"
OTHER_KEY = "k" * 64

Forger = Callable[[str], str | bytes]
"""Makes an Authorization header, given the API's key."""


@pytest.fixture
def api(aws: Aws, outputs: Mapping[str, str]) -> OrdersApi:
    return OrdersApi(aws, outputs)


def signed(*, header: object = HS256, digest: str = "sha256", **changes: Any) -> Forger:
    """Signed with the right key, but with this header and these claims."""
    return lambda key: forge(header, claims(**changes), key, digest=digest)


def timed(**seconds: int) -> Forger:
    """As ``signed``, with times that many seconds from the moment of signing."""
    return lambda key: forge(HS256, claims(**{name: int(time.time()) + shift for name, shift in seconds.items()}), key)


def written(payload: str) -> Forger:
    """Signed with the right key; the claims are JSON that ``json`` would not write."""
    return lambda key: forge(HS256, payload.encode(), key)


def other_key(header: object = HS256, key: str = OTHER_KEY) -> Forger:
    return lambda _: forge(header, claims(), key)


def unsigned(algorithm: str) -> Forger:
    return lambda key: forge({"alg": algorithm}, claims(), key).rpartition(".")[0] + "."


def changed(change: Callable[[str], str | bytes]) -> Forger:
    """A valid token, changed afterwards."""
    return lambda key: change(forge(HS256, claims(), key))


def with_claims_of_another(token: str) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{forge(HS256, claims(sub='admin'), OTHER_KEY).split('.')[1]}.{signature}"


CLAIMS = '"sub": "test-user", "aud": "orders-api", "iat": 1'

FORGED: dict[str, Forger] = {
    # A few of each kind, as they reach the function through the gateway; unit tests of the verification have all.
    "expired": timed(exp=-60),
    "without aud": signed(aud=None),
    "other aud": signed(aud="events-api"),
    "exp is infinite": written(f'{{{CLAIMS}, "exp": 1e400}}'),
    "claims nested deep": written("[" * 2_000),
    "alg none": unsigned("none"),
    "alg HS512": signed(header={"alg": "HS512"}, digest="sha512"),
    "other key": other_key(),
    "key of its own in jwk": other_key({**HS256, "jwk": {"kty": "oct", "k": OTHER_KEY}}),
    "signature empty": changed(lambda token: token.rpartition(".")[0] + "."),
    "signature of other claims": changed(with_claims_of_another),
    "letter from another alphabet": changed(lambda token: token.replace("e", "\u0435", 1)),
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
    "scheme in capitals, with spaces": changed(lambda token: f"BEARER   {token}"),
    "expired within the leeway": timed(exp=-3),
    "subject in Unicode": signed(sub="J\u00f6rg \u2603"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_valid_token_is_let_in(api: OrdersApi, name: str) -> None:
    answer = api.post([record("let-in")], authorization=ACCEPTED[name](api.key()))
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("name", ["authorization", "AUTHORIZATION", "aUtHoRiZaTiOn"])
def test_header_is_found_in_any_case(api: OrdersApi, name: str) -> None:
    token = f"Bearer {api.token()}"
    assert api.post([record("let-in")], headers={name: token}).status_code == 201
    # The emulator writes header names small; API Gateway passes them on as they came.
    for event in ({"headers": {name: token}}, {"multiValueHeaders": {name: [token]}}):
        assert decision(api, event)[0] == "Allow"


@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}, {"Authorisation": "Bearer x"}])
def test_without_a_token_the_answer_says_so(api: OrdersApi, headers: Mapping[str, str]) -> None:
    answer = api.post([record("forged")], headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    # What makes API Gateway answer so when its own check lets the request through.
    error, failed = api.invoke("orders-api-authorizer", {"methodArn": METHOD_ARN, "headers": headers})
    assert (error["errorMessage"], failed) == ("Unauthorized", True)


def decision(api: OrdersApi, event: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Effect and resource of the policy, and the whole answer of the function."""
    answer, failed = api.invoke("orders-api-authorizer", {"type": "REQUEST", "methodArn": METHOD_ARN, **event})
    assert not failed, answer
    (statement,) = answer["policyDocument"]["Statement"]
    assert statement["Action"] == "execute-api:Invoke"
    return statement["Effect"], statement["Resource"], answer


def test_policy_is_the_stages_and_names_the_subject(api: OrdersApi) -> None:
    effect, resource, answer = decision(api, {"headers": {"Authorization": api.token(sub="policy-holder")}})
    assert (effect, resource) == ("Allow", "arn:aws:execute-api:us-east-1:000000000000:api/prod/*")
    assert (answer["principalId"], answer["context"]) == ("policy-holder", {"sub": "policy-holder"})


def test_every_refusal_is_the_same_policy(api: OrdersApi) -> None:
    token = f"Bearer {api.token()}"
    both = {"headers": {"Authorization": token}, "multiValueHeaders": {"Authorization": [token, "Bearer x"]}}
    # The emulator's server takes no headers of this size, and one Authorization header only.
    long = f"Bearer {forge(HS256, claims(sub='a' * 75_000), api.key())}"
    assert len(long) > 100_000
    refused = [
        decision(api, {"headers": {"Authorization": long}}),
        decision(api, {"headers": {"Authorization": "x" * 100_000}}),
        decision(api, {"headers": {"Authorization": "\U0001f600" * 3}}),
        decision(api, {"headers": {"Authorization": "\ud800"}}),
        decision(api, both),
        decision(api, {"headers": {"Authorization": token, "authorization": token}}),
    ]
    assert {(effect, resource) for effect, resource, _ in refused} == {
        ("Deny", "arn:aws:execute-api:us-east-1:000000000000:api/prod/*")
    }
    assert len({json.dumps(answer) for _, _, answer in refused}) == 1


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
