import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest
import time_machine

from lambdas.events_api.api_keys import id_of, new_key
from lambdas.tools.api_keys import KeyTable
from tests.worlds.dynamodb import FakeTable, table_error

HANDLER = "lambdas.events_api.authorizer"
REQUEST_ID = "J5Yx3iP0IAMEV-Q="
MISSING = {"isAuthorized": True, "context": {"owner": "", "denied": "missing"}}
REFUSED = {"isAuthorized": True, "context": {"owner": "", "denied": "refused"}}
UNCHECKED = {"isAuthorized": True, "context": {"owner": "", "denied": "unchecked"}}
"""API Gateway would answer a denial in a form of its own: authorizer.py has the reason."""

Authorize = Callable[..., dict[str, Any]]


@pytest.fixture
def table(aws: dict[str, Any]) -> FakeTable:
    aws["dynamodb"] = FakeTable("api-keys", "key_id")
    return aws["dynamodb"]


@pytest.fixture
def key(table: FakeTable) -> str:
    return KeyTable(table, "api-keys").create("owner-1", None, "2026-03-02T09:30:00.000Z")


@pytest.fixture
def authorize(load: Callable[..., ModuleType], table: FakeTable, context: object) -> Authorize:
    """Calls the function as API Gateway does."""
    module = load(HANDLER, API_KEYS_TABLE="api-keys", REQUESTS_A_MINUTE="100")

    def call(**headers: str | None) -> dict[str, Any]:
        event = {
            "version": "2.0",
            "type": "REQUEST",
            "routeArn": "arn:aws:execute-api:us-east-1:000000000000:a1b2c3/$default/POST/events",
            "identitySource": None,
            "headers": {"host": "api.invalid", **{name.replace("_", "-"): value for name, value in headers.items()}},
            "requestContext": {"requestId": REQUEST_ID, "stage": "$default"},
        }
        answer: dict[str, Any] = module.handler(event, context)
        # API Gateway reads JSON.
        assert json.loads(json.dumps(answer)) == answer
        return answer

    return call


def test_key_lets_in_and_names_its_owner(authorize: Authorize, key: str) -> None:
    allowed = {"isAuthorized": True, "context": {"owner": "owner-1", "key_id": id_of(key)}}
    for headers in (
        {"authorization": f"Bearer {key}"},
        {"authorization": f"bearer  {key} "},
        {"Authorization": f"BEARER {key}"},
        {"x_api_key": key},
        {"X_Api_Key": f" {key} "},
        {"x_api_key": key, "authorization": f"Bearer {key}"},
        {"x_api_key": key, "authorization": ""},
        {"x_api_key": key, "authorization": None},
    ):
        assert authorize(**headers) == allowed


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": ""}, {"authorization": None}, {"x_api_key": ""}, {"x_api_key": " "}]
)
def test_request_without_a_key_is_distinguished(authorize: Authorize, headers: dict[str, str | None]) -> None:
    assert authorize(**headers) == MISSING


def test_every_refusal_is_the_same(authorize: Authorize, key: str) -> None:
    other = new_key()
    for headers in (
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": key},
        {"authorization": f"Basic {key}"},
        {"authorization": f"Bearer {other}"},
        {"authorization": f"Bearer {key} {key}"},
        {"authorization": f"Bearer {key},Bearer {key}"},
        {"authorization": f"Bearer {key[:-1]}"},
        {"x_api_key": other},
        {"x_api_key": f"Bearer {key}"},
        {"x_api_key": f"{key},{key}"},
        {"x_api_key": "🏭" * 10_000},
        {"x_api_key": key, "authorization": f"Bearer {other}"},
        {"x_api_key": other, "authorization": f"Bearer {key}"},
        {"x_api_key": key, "authorization": "Basic dTpw"},
    ):
        assert authorize(**headers) == REFUSED, headers


def test_key_that_makes_too_many_requests_is_distinguished_and_others_are_let_in(
    authorize: Authorize, table: FakeTable, key: str
) -> None:
    other = KeyTable(table, "api-keys").create("owner-2", None, "2026-03-02T09:30:00.000Z")
    # No minute ends meanwhile.
    with time_machine.travel(datetime(2026, 3, 2, 9, 30, tzinfo=UTC), tick=False):
        answers = [authorize(x_api_key=key) for _ in range(202)]
        assert answers.count({"isAuthorized": True, "context": {"owner": "", "denied": "throttled"}}) == 102
        assert authorize(x_api_key=other)["context"]["owner"] == "owner-2"


def test_request_without_headers_has_no_key(load: Callable[..., ModuleType]) -> None:
    assert load(HANDLER, API_KEYS_TABLE="api-keys", REQUESTS_A_MINUTE="100").handler({}, None) == MISSING


def test_key_that_cannot_be_checked_is_no_denial(authorize: Authorize, table: FakeTable, key: str) -> None:
    table.faults = iter([table_error("ThrottlingException")])
    assert authorize(x_api_key=key) == UNCHECKED
    assert authorize(x_api_key=key)["context"]["owner"] == "owner-1"


def test_log_has_the_reason_and_never_the_key(
    authorize: Authorize, table: FakeTable, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table.faults = iter([table_error("AccessDeniedException")])
    for headers in ({"x_api_key": key}, {"x_api_key": key}, {"x_api_key": new_key()}, {"x_api_key": "planted"}, {}):
        authorize(**headers)
    authorize(x_api_key=key, authorization="Bearer planted")
    authorize(authorization="planted")
    output = capsys.readouterr().out
    lines = [json.loads(line) for line in output.splitlines()]
    assert [(line["level"], line["message"], line.get("reason"), line.get("owner")) for line in lines] == [
        ("ERROR", "keys unavailable", "AccessDeniedException", None),
        ("INFO", "allowed", None, "owner-1"),
        ("INFO", "denied", "unknown", None),
        ("INFO", "denied", "malformed", None),
        ("INFO", "denied", "no key", None),
        ("INFO", "denied", "two keys", None),
        ("INFO", "denied", "no bearer", None),
    ]
    assert {(line["request_id"], line["service"]) for line in lines} == {(REQUEST_ID, "events-api-authorizer")}
    assert "planted" not in output
    assert key[11:] not in output


def test_missing_table_is_named_while_the_function_starts(load: Callable[..., ModuleType]) -> None:
    with pytest.raises(Exception, match="API_KEYS_TABLE") as caught:
        load(HANDLER)
    assert type(caught.value).__name__ == "EnvironmentVariableError"


def test_function_needs_nothing_but_python_and_botocore(imports: Callable[..., set[str]]) -> None:
    """Its zip has no libraries, and each module costs at every cold start, on top of the API function's."""
    loaded = imports(HANDLER, API_KEYS_TABLE="x", REQUESTS_A_MINUTE="1")
    assert {"botocore", "lambdas"} <= loaded
    assert loaded.isdisjoint({"aws_lambda_powertools", "boto3", "jwt", "pydantic", "requests", "httpx"})
