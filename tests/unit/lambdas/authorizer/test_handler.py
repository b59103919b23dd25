import io
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from lambdas.authorizer.signing_keys import DeniedError, KeysUnavailableError, MissingTokenError
from lambdas.authorizer.verification import MAX_CHARACTERS, token_of
from tests.worlds.authorizer import KEY, NOW, OTHER_KEY, signed
from tests.worlds.tokens import HS256, FakeSecret, claims, forge, secrets_manager_error

LoadHandler = Callable[..., ModuleType]
Divert = Callable[[ModuleType], io.StringIO]

HANDLER = "lambdas.authorizer.handler"
STAGE_ARN = "arn:aws:execute-api:us-east-1:000000000000:a1b2c3/prod"
REQUEST_ID = "6e0c7a1e-5b0f-4d6b-8a6e-0f3c7d1b2a90"

Authorize = Callable[..., dict[str, Any]]


@pytest.fixture
def secret(aws: dict[str, Any]) -> FakeSecret:
    aws["secretsmanager"] = FakeSecret(KEY)
    return aws["secretsmanager"]


@pytest.fixture
def function(load: LoadHandler, secret: FakeSecret) -> ModuleType:
    return load(HANDLER, JWT_SECRET_ID="orders-api/jwt", JWT_AUDIENCE="orders-api")


@pytest.fixture
def authorize(function: ModuleType, context: object) -> Authorize:
    """Calls the function as API Gateway does."""

    def call(authorization: str | None, path: str = "POST/orders") -> dict[str, Any]:
        headers = {"Host": "api.invalid"} | ({"Authorization": authorization} if authorization is not None else {})
        event = {
            "type": "REQUEST",
            "methodArn": f"{STAGE_ARN}/{path}",
            "headers": headers,
            "multiValueHeaders": {name: [value] for name, value in headers.items()},
            "requestContext": {"requestId": REQUEST_ID, "stage": "prod"},
        }
        answer: dict[str, Any] = function.handler(event, context)
        # API Gateway reads JSON.
        assert json.loads(json.dumps(answer)) == answer
        return answer

    return call


def policy(effect: str) -> dict[str, Any]:
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": f"{STAGE_ARN}/*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.mark.parametrize("path", ["POST/orders", "POST/orders/", "GET/a/b/c", "POST/"])
def test_good_token_opens_the_whole_stage(authorize: Authorize, path: str) -> None:
    for authorization in (f"Bearer {signed()}", signed()):
        assert authorize(authorization, path) == {
            "principalId": "test-user",
            "policyDocument": policy("Allow"),
            "context": {"sub": "test-user"},
        }


def test_every_denial_is_the_same_and_gives_nothing_away(authorize: Authorize) -> None:
    tokens = [
        "Bearer",
        "Basic dTpw",
        "Bearer x",
        f"Bearer {'x' * 100_000}",
        "🏭",
        forge({"alg": "none"}, claims(), KEY).rpartition(".")[0] + ".",
        forge(HS256, claims(), OTHER_KEY),
        signed(exp=NOW - 3_600),
        signed(nbf=NOW + 3_600),
        signed(aud="other"),
        signed(sub=""),
        signed()[:-5],
    ]
    answers = {json.dumps(authorize(token)) for token in tokens}
    assert answers == {json.dumps({"principalId": "anonymous", "policyDocument": policy("Deny")})}


@pytest.mark.parametrize("authorization", [None, "", " "])
def test_missing_token_is_a_401(authorize: Authorize, authorization: str | None) -> None:
    """API Gateway compares the message with exactly this."""
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        authorize(authorization)


def test_token_that_cannot_be_checked_is_a_500(authorize: Authorize, secret: FakeSecret, function: ModuleType) -> None:
    secret.failure = secrets_manager_error("AccessDeniedException")
    with pytest.raises(KeysUnavailableError):
        authorize(signed())
    secret.failure = None
    assert authorize(signed())["policyDocument"] == policy("Allow")


def test_outage_that_nobody_notices_is_logged(
    function: ModuleType, context: object, log: Divert, secret: FakeSecret
) -> None:
    secret.failing_stage, secret.failure = "AWSPREVIOUS", secrets_manager_error("ThrottlingException")
    output = log(function)
    event = {"methodArn": f"{STAGE_ARN}/POST/orders", "headers": {"authorization": signed()}}
    assert function.handler(event, context)["policyDocument"] == policy("Allow")
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [(line["level"], line["message"], line.get("reason")) for line in lines] == [
        ("ERROR", "keys not read, the known ones serve on", "ThrottlingException"),
        ("INFO", "allowed", None),
    ]


def test_log_has_the_reason_and_never_the_token(
    authorize: Authorize, function: ModuleType, log: Divert, secret: FakeSecret, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWERTOOLS_LOGGER_LOG_EVENT", "true")
    output = log(function)
    secret.failure = secrets_manager_error("AccessDeniedException")
    with pytest.raises(KeysUnavailableError):
        authorize(signed())
    secret.failure = None
    authorize(signed())
    authorize(signed(exp=NOW - 3_600))
    authorize("planted-secret")
    with pytest.raises(Exception, match="Unauthorized"):
        authorize(None)
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [(line["message"], line.get("reason"), line.get("subject")) for line in lines] == [
        ("keys unavailable", "AccessDeniedException", None),
        ("allowed", None, "test-user"),
        ("denied", "claim exp is past", None),
        ("denied", "DecodeError", None),
        ("no token", None, None),
    ]
    assert {line["request_id"] for line in lines} == {REQUEST_ID}
    for secret_text in (KEY, "planted-secret", signed(), signed().split(".")[2]):
        assert secret_text not in output.getvalue()


@pytest.mark.parametrize(
    ("environment", "audience", "issuer"),
    [
        ({}, None, None),
        ({"JWT_AUDIENCE": "", "JWT_ISSUER": ""}, None, None),
        ({"JWT_AUDIENCE": "orders-api", "JWT_ISSUER": "me"}, "orders-api", "me"),
    ],
)
def test_empty_settings_are_not_checked(
    load: LoadHandler,
    context: object,
    secret: FakeSecret,
    environment: dict[str, str],
    audience: str | None,
    issuer: str | None,
) -> None:
    module = load(HANDLER, JWT_SECRET_ID="orders-api/jwt", **environment)

    def effect(**changes: Any) -> str:
        event = {"methodArn": f"{STAGE_ARN}/POST/orders", "headers": {"authorization": signed(**changes)}}
        answer: dict[str, Any] = module.handler(event, context)
        return str(answer["policyDocument"]["Statement"][0]["Effect"])

    assert effect(aud="orders-api", iss="me") == "Allow"
    assert effect(aud="other", iss="me") == ("Deny" if audience else "Allow")
    assert effect(aud="orders-api", iss="you") == ("Deny" if issuer else "Allow")
    assert effect(aud=None, iss=None) == ("Deny" if audience or issuer else "Allow")


def test_missing_secret_id_is_named_while_the_function_starts(load: LoadHandler) -> None:
    with pytest.raises(Exception, match="JWT_SECRET_ID") as caught:
        load(HANDLER)
    assert type(caught.value).__name__ == "EnvironmentVariableError"


def test_function_loads_nothing_that_it_does_not_need(imports: Callable[..., set[str]]) -> None:
    """Each module costs at every cold start, which comes on top of the API function's."""
    loaded = imports(HANDLER, JWT_SECRET_ID="x")
    assert {"botocore", "aws_lambda_powertools", "jwt"} <= loaded
    assert loaded.isdisjoint({"boto3", "pydantic", "s3transfer", "requests", "httpx"})


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION", "aUTHORIZATION"])
@pytest.mark.parametrize(
    "value", ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c", " Bearer a.b.c ", "a.b.c", " a.b.c"]
)
def test_token_is_found_in_a_header_of_any_case(name: str, value: str) -> None:
    assert token_of({"headers": {"Host": "x", name: value}}) == "a.b.c"
    assert token_of({"multiValueHeaders": {"Host": ["x"], name: [value]}}) == "a.b.c"
    assert token_of({"headers": {name: value}, "multiValueHeaders": {name: [value]}}) == "a.b.c"


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"headers": None, "multiValueHeaders": None},
        {"headers": {"Host": "x", "Proxy-Authorization": "Bearer a.b.c", "X-Authorization": "a.b.c"}},
        {"headers": {"Authorization": ""}},
        {"headers": {"Authorization": " \t"}},
        {"multiValueHeaders": {"authorization": [""]}},
        {"multiValueHeaders": {"authorization": []}},
        {"headers": {"Authorization": None}},
        {"multiValueHeaders": {"Authorization": None}},
        {"multiValueHeaders": {"Authorization": [None]}},
    ],
    ids=repr,
)
def test_request_without_a_token_is_distinguished(event: dict[str, Any]) -> None:
    with pytest.raises(MissingTokenError):
        token_of(event)


@pytest.mark.parametrize("value", ["Bearer", "bearer ", "Basic dTpw", "Bearer a b", "a b", "Bearer Bearer a", "a, b"])
def test_what_is_no_bearer_token(value: str) -> None:
    with pytest.raises(DeniedError, match="no bearer token"):
        token_of({"headers": {"Authorization": value}})


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ["Bearer a", "Bearer a"]},
        {"Authorization": ["Bearer a", ""]},
        {"Authorization": ["", "Bearer a"]},
        {"Authorization": ["Bearer a"], "authorization": ["Bearer b"]},
    ],
    ids=repr,
)
def test_two_headers_are_denied(headers: dict[str, list[str]]) -> None:
    with pytest.raises(DeniedError, match="several headers"):
        token_of({"multiValueHeaders": headers})


def test_long_header_is_denied_undecoded() -> None:
    longest = "a" * MAX_CHARACTERS
    assert token_of({"headers": {"Authorization": longest}}) == longest
    for value in (longest + "a", "Bearer " + "a" * 100_000):
        with pytest.raises(DeniedError, match="too long"):
            token_of({"headers": {"Authorization": value}})
