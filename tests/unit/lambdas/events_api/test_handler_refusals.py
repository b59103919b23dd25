import io
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from lambdas.common.errors import ApiError, UnavailableError
from lambdas.events_api.errors import StoreUnavailableError
from lambdas.events_api.models import MAX_PAYLOAD_BYTES
from lambdas.events_api.requests import MAX_BODY_BYTES
from tests.worlds.events_api import ENVIRONMENT, GUARDED, HANDLER, ID, NEW, REQUEST_ID, Api, lines
from tests.worlds.openapi import api_errors
from tests.worlds.tokens import secrets_manager_error

LoadHandler = Callable[..., ModuleType]
Divert = Callable[[ModuleType], io.StringIO]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (None, 400, "empty_body"),
        (" ", 400, "empty_body"),
        ("planted-secret", 400, "not_json"),
        (json.dumps(NEW) + " " * MAX_BODY_BYTES, 413, "too_large"),
        (json.dumps(NEW | {"payload": {"k": "planted-secret" * (MAX_PAYLOAD_BYTES // 10)}}), 413, "too_large"),
        ("[]", 422, "invalid_request"),
        (json.dumps(NEW | {"planted": "planted-secret"}), 422, "invalid_request"),
        (json.dumps(NEW | {"event_type": "planted-secret"}), 422, "invalid_request"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_request_that_is_refused_stores_nothing(api: Api, body: str | None, status: int, code: str) -> None:
    answered, answer = api.call("POST /events", body)
    assert (answered, answer["error"]["code"], answer["error"]["request_id"]) == (status, code, REQUEST_ID)
    assert "planted-secret" not in json.dumps(answer)
    assert (api.store.events, api.woken) == ({}, [])


MISSING = (401, "unauthorized", "Bearer")
REFUSED = (403, "forbidden", None)
THROTTLED = (429, "throttled", None)
UNCHECKED = (503, "key_unchecked", None)


@pytest.mark.parametrize("route", GUARDED)
@pytest.mark.parametrize(
    ("authorizer", "expected"),
    [
        # As from a route that has no authorizer.
        (None, MISSING),
        ({}, MISSING),
        ({"lambda": None}, MISSING),
        ({"jwt": {"claims": {"owner": "owner-1"}}}, MISSING),
        ({"owner": "owner-1"}, MISSING),
        ({"lambda": {"owner": "", "denied": "missing"}}, MISSING),
        ({"lambda": {"owner": "owner-1", "denied": "missing"}}, MISSING),
        ({"lambda": {"owner": "", "denied": "refused"}}, REFUSED),
        ({"lambda": {"owner": "owner-1", "denied": "refused"}}, REFUSED),
        ({"lambda": {"owner": "owner-1", "denied": None}}, REFUSED),
        ({"lambda": {"owner": "owner-1", "denied": ""}}, REFUSED),
        ({"lambda": {"owner": "", "denied": "throttled"}}, THROTTLED),
        ({"lambda": {"owner": "", "denied": "unchecked"}}, UNCHECKED),
        ({"lambda": {"owner": ""}}, REFUSED),
        ({"lambda": {"owner": None}}, REFUSED),
        ({"lambda": {"key_id": "abcdefgh"}}, REFUSED),
    ],
)
def test_without_an_owner_nothing_is_done(
    api: Api, posted: str, route: str, authorizer: dict[str, Any] | None, expected: tuple[int, str, str | None]
) -> None:
    before = dict(api.store.events)
    # What it was called with is not looked at.
    for body, query in ((json.dumps(NEW), {}), ("{", {"limit": "x"})):
        status, answer = api.call(route, body, owner=None, authorizer=authorizer, **query)
        assert (status, answer["error"]["code"], api.headers.get("WWW-Authenticate")) == expected
        assert answer["error"]["details"] == []
    assert api.store.events == before


def test_refused_key_changes_nothing_where_none_is_needed(api: Api) -> None:
    denied = {"lambda": {"owner": "", "denied": "refused"}}
    assert api.call("GET /health", authorizer=denied)[0] == 200
    assert api.call("GET /elsewhere", authorizer=denied)[0] == 404
    assert api.call("PUT /events", authorizer=denied)[0] == 405


@pytest.mark.parametrize(
    ("route", "allowed"),
    [
        ("POST /health", "GET, HEAD"),
        ("PUT /events", "GET, POST, HEAD"),
        ("OPTIONS /events", "GET, POST, HEAD"),
        ("POST /inbox", "GET, HEAD"),
        (f"PATCH /events/{ID}", "GET, DELETE, HEAD"),
        (f"HEAD /events/{ID}/replay", "POST"),
        (f"GET /events/{ID}/acknowledge", "POST"),
        (f"DELETE /events/{ID}/replay", "POST"),
    ],
)
def test_method_that_a_path_lacks_is_405_with_those_it_has(api: Api, route: str, allowed: str) -> None:
    status, answer = api.call(route)
    assert (status, api.headers["Allow"]) == (405, allowed)
    assert answer is None if route.startswith("HEAD") else answer["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "path", ["/", "/planted-secret", "/events/", "/events/a/b", "/events/a/replay/b", "/Events", "//events", ""]
)
def test_unknown_path_is_404_and_not_quoted(api: Api, path: str) -> None:
    for owner in (None, "owner-1"):
        status, answer = api.call(f"GET {path}", owner=owner)
        assert (status, answer["error"]["code"]) == (404, "not_found")
        assert "planted-secret" not in json.dumps(answer)


@pytest.mark.parametrize("worth_repeating", [True, False])
@pytest.mark.parametrize("route", GUARDED)
def test_table_that_does_not_answer_is_a_503(api: Api, log: Divert, route: str, worth_repeating: bool) -> None:
    output = log(api.module)
    api.store.fail(StoreUnavailableError("PlantedException", worth_repeating=worth_repeating))
    status, answer = api.call(route, json.dumps(NEW))
    assert (status, answer["error"]["code"]) == (503, "unavailable")
    assert api.headers.get("Retry-After") == ("5" if worth_repeating else None)
    assert "Planted" not in json.dumps(answer)
    assert lines(output.getvalue())[0]["reasons"] == ["PlantedException"]


@pytest.mark.parametrize(
    ("versions", "failure", "reason", "retry_after"),
    [
        ([], None, "ResourceNotFoundException", None),
        (["planted-secret"], None, "too short", None),
        ([""], None, "too short", None),
        (["s" * 64], secrets_manager_error("AccessDeniedException"), "AccessDeniedException", None),
        (["s" * 64], secrets_manager_error("ThrottlingException"), "ThrottlingException", "5"),
        (["s" * 64], ConnectTimeoutError(endpoint_url="https://planted-secret"), "ConnectTimeoutError", "5"),
    ],
)
def test_without_the_secret_of_the_ids_a_new_key_is_a_503_until_the_secret_can_be_read(
    api: Api, log: Divert, versions: list[str], failure: Exception | None, reason: str, retry_after: str | None
) -> None:
    output = log(api.module)
    api.secret.versions, api.secret.failure = versions, failure
    status, answer = api.post(idempotency_key="k")
    assert (status, answer["error"]["code"], api.headers.get("Retry-After")) == (503, "unavailable", retry_after)
    assert lines(output.getvalue())[0]["reasons"] == [f"secret of the event ids: {reason}"]
    assert "planted-secret" not in json.dumps(answer) + output.getvalue()
    assert (api.store.events, api.woken) == ({}, [])
    assert api.post()[0] == 201, "an event without a key needs no secret"
    api.secret.versions, api.secret.failure = ["s" * 64], None
    assert api.post(idempotency_key="k")[0] == 201
    assert "s" * 64 not in output.getvalue()


@pytest.mark.parametrize("route", GUARDED)
def test_mistake_of_ours_is_a_500_without_internals(api: Api, log: Divert, route: str) -> None:
    output = log(api.module)
    api.store.fail(KeyError("planted-secret"))
    status, answer = api.call(route, json.dumps(NEW))
    assert (status, answer["error"]["code"], answer["error"]["request_id"]) == (500, "internal_error", REQUEST_ID)
    assert "planted-secret" not in json.dumps(answer) + output.getvalue()
    assert lines(output.getvalue())[0]["error"] == "KeyError"


def test_request_without_an_id_of_api_gateway_takes_the_invocations(api: Api) -> None:
    event = {"rawPath": "/x", "requestContext": {"stage": "$default", "http": {"method": "GET", "path": "/x"}}}
    answer = json.loads(api.module.handler(event, api.context)["body"])
    assert answer["error"]["request_id"] == api.context.aws_request_id


def test_log_holds_ids_and_counts(
    api: Api, log: Divert, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POWERTOOLS_LOGGER_LOG_EVENT", "true")
    output = log(api.module)
    api.post()
    api.call("POST /events", "planted-secret")
    api.call("GET /health", owner=None)
    first, second, third = lines(output.getvalue())
    assert (first["request_id"], first["owner"], first["key_id"]) == (REQUEST_ID, "owner-1", "abcdefgh")
    assert (first["status"], first["event_id"]) == (201, ID)
    assert first["duration_ms"] > 0
    # What was noted of one request is not told of the next.
    assert second["status"] == 400
    assert "event_id" not in second
    assert third.get("owner") is None
    printed = capsys.readouterr().out
    (metrics,) = lines(printed)
    assert (metrics["EventsPosted"], metrics["EventsRepeated"], metrics["DeliveryNotWoken"]) == ([1.0], [0.0], [0.0])
    assert metrics["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Pipelines"
    assert "planted-secret" not in output.getvalue() + printed


def test_nothing_is_printed_in_development_mode(
    request: pytest.FixtureRequest, log: Divert, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POWERTOOLS_DEV", "true")
    api: Api = request.getfixturevalue("api")
    output = log(api.module)
    api.call("POST /events", "planted-secret")
    assert "planted-secret" not in output.getvalue() + capsys.readouterr().out


@pytest.mark.parametrize("missing", sorted(ENVIRONMENT))
def test_missing_variable_is_named_while_the_function_starts(load: LoadHandler, missing: str) -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name != missing}
    with pytest.raises(Exception, match=missing) as caught:
        load(HANDLER, **environment)
    assert type(caught.value).__name__ == "EnvironmentVariableError"


def test_every_error_has_a_status_and_a_code_of_its_own() -> None:
    ours = [*api_errors("common"), *api_errors("events_api")]
    codes = {(kind.status, kind.code) for kind in ours if kind is not UnavailableError}
    assert len(codes) == len(ours) - 1, "two errors share a code"
    assert (ApiError.status, ApiError.code) not in codes, "one has none"


def test_function_loads_nothing_that_it_does_not_need(imports: Callable[..., set[str]]) -> None:
    """Each module costs at every cold start."""
    loaded = imports(HANDLER, **ENVIRONMENT)
    assert {"botocore", "aws_lambda_powertools", "pydantic"} <= loaded
    assert loaded.isdisjoint({"boto3", "s3transfer", "requests", "httpx", "jwt"})
