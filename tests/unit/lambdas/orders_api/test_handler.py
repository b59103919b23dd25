import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import repeat
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from lambdas.orders_api.models import MAX_BODY_BYTES
from lambdas.tools.openapi import orders_document
from tests.worlds.dynamodb import FakeDynamoDB, Fault, Leave, table_error
from tests.worlds.openapi import response_of

LoadHandler = Callable[..., ModuleType]
Divert = Callable[[ModuleType], io.StringIO]

HANDLER = "lambdas.orders_api.handler"
REQUEST_ID = "6e0c7a1e-5b0f-4d6b-8a6e-0f3c7d1b2a90"
RECORD = {"record_id": "unique_id_1", "parameter_1": "planted-secret", "parameter_2": 2.1}


class Api:
    """The function, called as API Gateway does."""

    def __init__(self, module: ModuleType, context: Any) -> None:
        self.module = module
        self.context = context
        self.headers: dict[str, list[str]] = {}

    def call(self, body: str | None, *, method: str = "POST", path: str = "/orders", **event: Any) -> tuple[int, Any]:
        """Status and body of the answer; the body was checked against the OpenAPI document."""
        answer = self.module.handler(
            {
                "resource": path,
                "path": path,
                "httpMethod": method,
                "headers": {"Authorization": "Bearer planted-secret", "Content-Type": "application/json"},
                "multiValueHeaders": {"Authorization": ["Bearer planted-secret"]},
                "queryStringParameters": None,
                "pathParameters": None,
                "requestContext": {
                    "requestId": REQUEST_ID,
                    "stage": "prod",
                    "path": f"/prod{path}",
                    "authorizer": {"sub": "test-user", "principalId": "test-user"},
                },
                "body": body,
                "isBase64Encoded": False,
                **event,
            },
            self.context,
        )
        self.headers = answer["multiValueHeaders"]
        assert self.headers["Content-Type"] == ["application/json"]
        return answer["statusCode"], json.loads(answer["body"])

    def post(self, records: object) -> tuple[int, Any]:
        return self.call(json.dumps(records))


@pytest.fixture
def table(aws: dict[str, Any]) -> FakeDynamoDB:
    aws["dynamodb"] = FakeDynamoDB()
    return aws["dynamodb"]


@pytest.fixture
def api(load: LoadHandler, context: Any, table: FakeDynamoDB) -> Api:
    return Api(load(HANDLER, ORDERS_TABLE="orders", POWERTOOLS_METRICS_NAMESPACE="Pipelines"), context)


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_records_are_stored_for_24_hours(api: Api, table: FakeDynamoDB) -> None:
    before = int(datetime.now(UTC).timestamp())
    status, body = api.post([RECORD, RECORD | {"record_id": "unique_id_2"}])
    assert (status, body["stored"]) == (201, 2)
    expires = datetime.strptime(body["expires_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    assert before + 86_400 <= expires <= datetime.now(UTC).timestamp() + 86_400
    assert {item["ttl"]["N"] for item in table.items.values()} == {str(int(expires))}
    assert table.items["unique_id_1"]["parameter_2"] == {"N": "2.1"}


def test_same_call_twice_leaves_one_record(api: Api, table: FakeDynamoDB) -> None:
    assert [api.post([RECORD])[0], api.post([RECORD | {"parameter_2": 3}])[0]] == [201, 201]
    assert table.items["unique_id_1"]["parameter_2"] == {"N": "3"}


def test_path_that_a_domain_puts_in_front_is_not_looked_at(api: Api) -> None:
    assert api.call(json.dumps([RECORD]), path="/market/v1/orders", resource="/orders")[0] == 201


def test_body_in_base64_is_decoded(api: Api, table: FakeDynamoDB) -> None:
    body = base64.b64encode(json.dumps([RECORD]).encode()).decode()
    assert api.call(body, isBase64Encoded=True)[0] == 201
    assert len(table.items) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (None, 400, "empty_body"),
        (" ", 400, "empty_body"),
        ("planted-secret", 400, "not_json"),
        ("[NaN]", 400, "not_json"),
        (json.dumps([RECORD]) + " " * MAX_BODY_BYTES, 413, "too_large"),
        ("x" * 10_000_000, 413, "too_large"),
        ("[]", 422, "invalid_records"),
        (json.dumps([RECORD, {}]), 422, "invalid_records"),
        (json.dumps([RECORD, RECORD]), 422, "invalid_records"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_request_that_is_refused_stores_nothing(
    api: Api, table: FakeDynamoDB, body: str | None, status: int, code: str
) -> None:
    answered, answer = api.call(body)
    assert (answered, answer["error"]["code"], answer["error"]["request_id"]) == (status, code, REQUEST_ID)
    assert "planted-secret" not in json.dumps(answer)
    assert table.batches == []


def test_faults_name_index_and_field(api: Api, table: FakeDynamoDB) -> None:
    _, answer = api.post([RECORD, {"record_id": "b", "parameter_1": "x", "parameter_2": "2.1"}])
    assert answer["error"]["details"] == [{"index": 1, "field": "parameter_2", "message": "must be a number"}]


def test_what_the_table_did_not_take_is_named(api: Api, table: FakeDynamoDB) -> None:
    """With a moment to go, the table is busy until the time is up."""
    api.context = replace(api.context, remaining_seconds=5.1)
    table.faults = repeat(Leave(2))
    status, answer = api.post([RECORD | {"record_id": name} for name in "abc"])
    assert (status, answer["error"]["code"]) == (503, "partially_stored")
    assert answer["error"]["details"] == {"stored": 1, "not_stored": ["b", "c"]}
    assert answer["error"]["message"].endswith("; send those again later")
    assert api.headers["Retry-After"] == ["5"]
    assert set(table.items) == {"a"}


def test_table_that_refuses_does_not_promise_to_take_them_later(api: Api, table: FakeDynamoDB) -> None:
    table.faults = iter([table_error("ResourceNotFoundException")])
    status, answer = api.post([RECORD])
    assert (status, answer["error"]["code"]) == (503, "unavailable")
    assert answer["error"]["details"] == {"stored": 0, "not_stored": ["unique_id_1"]}
    assert "ResourceNotFound" not in json.dumps(answer)
    assert "later" not in answer["error"]["message"]
    assert "Retry-After" not in api.headers


def test_answer_comes_before_the_invocation_ends(api: Api, table: FakeDynamoDB) -> None:
    """With five seconds left there is no attempt: it may take four of them."""
    api.context = replace(api.context, remaining_seconds=5.0)
    assert api.post([RECORD])[0] == 503
    assert table.batches == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/orders", 405, "method_not_allowed"),
        ("DELETE", "/orders", 405, "method_not_allowed"),
        ("POST", "/", 404, "not_found"),
        ("POST", "/orders/1", 404, "not_found"),
        ("GET", "/planted-secret", 404, "not_found"),
    ],
)
def test_other_methods_and_paths_are_refused(
    api: Api, table: FakeDynamoDB, method: str, path: str, status: int, code: str
) -> None:
    answered, answer = api.call(json.dumps([RECORD]), method=method, path=path)
    assert (answered, answer["error"]["code"], answer["error"]["details"]) == (status, code, [])
    assert api.headers.get("Allow") == (["POST"] if status == 405 else None)
    assert "planted-secret" not in json.dumps(answer)
    assert table.batches == []


def test_mistake_of_ours_is_a_500_without_internals(api: Api, table: FakeDynamoDB, log: Divert) -> None:
    table.faults = iter([KeyError("planted-secret")])
    output = log(api.module)
    status, answer = api.post([RECORD])
    assert (status, answer["error"]["code"]) == (500, "internal_error")
    assert answer["error"]["request_id"] == REQUEST_ID
    written = output.getvalue()
    assert "planted-secret" not in json.dumps(answer) + written
    error, _ = lines(written)
    assert error["error"] == "KeyError"
    assert "batch_write_item" in "".join(error["stack"])


def test_request_without_an_id_of_api_gateway_takes_the_invocations(api: Api, table: FakeDynamoDB) -> None:
    _, answer = api.call("", requestContext={})
    assert answer["error"]["request_id"] == api.context.aws_request_id


@pytest.mark.parametrize("faults", [[], [table_error("AccessDeniedException")]], ids=["stored", "not stored"])
def test_log_holds_ids_and_counts(
    api: Api,
    table: FakeDynamoDB,
    log: Divert,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    faults: list[Fault],
) -> None:
    monkeypatch.setenv("POWERTOOLS_LOGGER_LOG_EVENT", "true")
    table.faults = iter(faults)
    output = log(api.module)
    api.post([RECORD])
    api.call("planted-secret")
    *errors, first, second = lines(output.getvalue())
    assert (first["request_id"], first["subject"], first["records"]) == (REQUEST_ID, "test-user", 1)
    assert first["status"] == (503 if faults else 201)
    told = [(line["level"], line["message"], line["not_stored"], line["reasons"]) for line in errors]
    assert told == ([("ERROR", "records not stored", 1, ["AccessDeniedException"])] if faults else [])
    assert all(line["request_id"] == REQUEST_ID for line in errors)
    assert first["duration_ms"] > 0
    # What was noted of one request is not told of the next.
    assert second["status"] == 400
    assert "records" not in second
    (metrics,) = lines(capsys.readouterr().out)
    assert (metrics["StoredRecords"], metrics.get("UnstoredRecords")) == (([0.0], [1.0]) if faults else ([1.0], None))
    assert metrics["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Pipelines"
    assert "planted-secret" not in output.getvalue() + json.dumps(metrics)


def test_nothing_is_printed_in_development_mode(
    load: LoadHandler, context: Any, log: Divert, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POWERTOOLS_DEV", "true")
    api = Api(load(HANDLER, ORDERS_TABLE="orders", POWERTOOLS_METRICS_NAMESPACE="Pipelines"), context)
    output = log(api.module)
    api.call("planted-secret")
    assert "planted-secret" not in output.getvalue() + capsys.readouterr().out


@pytest.mark.parametrize("missing", ["ORDERS_TABLE", "POWERTOOLS_METRICS_NAMESPACE"])
def test_missing_variable_is_named_while_the_function_starts(load: LoadHandler, missing: str) -> None:
    environment = {"ORDERS_TABLE": "orders", "POWERTOOLS_METRICS_NAMESPACE": "Pipelines"}
    del environment[missing]
    with pytest.raises(Exception, match=missing) as caught:
        load(HANDLER, **environment)
    assert type(caught.value).__name__ == "EnvironmentVariableError"


def test_answers_are_as_documented(api: Api, table: FakeDynamoDB) -> None:
    """Every error that the function answers by itself, against the schema of its status."""
    document = orders_document()
    seen = set()
    table.faults = iter([None, table_error("AccessDeniedException"), KeyError()])
    for body in (json.dumps([RECORD]),) * 3 + ("", "x", "[1]", " " * MAX_BODY_BYTES + "1"):
        status, answer = api.call(body)
        response = response_of(document, "/orders", "post", status)
        schema = response["content"]["application/json"]["schema"]
        jsonschema.validate(answer, {**schema, "components": document["components"]})
        seen.add(status)
    assert seen == {201, 400, 413, 422, 500, 503}


def test_function_loads_nothing_that_it_does_not_need(imports: Callable[..., set[str]]) -> None:
    """Each module costs at every cold start."""
    loaded = imports(HANDLER, ORDERS_TABLE="x", POWERTOOLS_METRICS_NAMESPACE="x")
    assert {"botocore", "aws_lambda_powertools", "pydantic"} <= loaded
    assert loaded.isdisjoint({"boto3", "s3transfer", "requests", "httpx", "jwt"})
