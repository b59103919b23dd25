import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError

from ops.environment import Environment
from ops.report import OpsError
from tests.worlds.s3 import raising

STACK = {
    "region": "us-east-1",
    "aws_endpoint_url": "http://127.0.0.1:4566",
    "airflow_url": "http://127.0.0.1:8080",
    "airflow_token_url": "http://127.0.0.1:8080/auth/token",
}


class Mwaa:
    def __init__(self, reply: dict[str, Any] | Exception) -> None:
        self.reply = reply
        self.asked: list[dict[str, Any]] = []

    def client(self, service: str, **options: Any) -> Any:
        assert service == "mwaa"
        self.retries = options["config"].retries
        return self

    def invoke_rest_api(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


def on_aws(reply: dict[str, Any] | Exception) -> tuple[Environment, Mwaa]:
    session = Mwaa(reply)
    return Environment("prod", session, None, {}, httpx.Client(transport=httpx.MockTransport(refuse))), session


def refusal(code: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "not allowed"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "InvokeRestApi")


def refuse(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"{request.url} was asked")


def local(answer: httpx.Response) -> tuple[Environment, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        if str(request.url) == STACK["airflow_token_url"]:
            return httpx.Response(200, json={"access_token": "t0ken"})
        asked.append(request)
        return answer

    return Environment("local", None, None, STACK, httpx.Client(transport=httpx.MockTransport(reply))), asked


def test_local_environment_reaches_the_emulator_whatever_the_shell_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stack.json").write_text(json.dumps(STACK))
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.amazonaws.com")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example.com:1080")
    environment = Environment.open("local", state_directory=tmp_path)
    client = environment.aws("s3")
    assert client.meta.endpoint_url == STACK["aws_endpoint_url"]
    assert client.meta.config.proxies == {}
    assert not environment.http.trust_env


def test_environment_on_aws_opens_whatever_proxy_and_certificates_the_shell_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example.com:1080")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    with Environment.open("prod").http as http:
        assert not http.trust_env


@pytest.mark.parametrize("stack", [None, '{"region":'], ids=["none", "half a file"])
def test_local_environment_without_a_stack_says_what_to_start(stack: str | None, tmp_path: Path) -> None:
    if stack is not None:
        (tmp_path / "stack.json").write_text(stack)
    with pytest.raises(OpsError, match="make up"):
        Environment.open("local", state_directory=tmp_path)


def test_airflow_on_aws_is_asked_through_mwaa() -> None:
    environment, mwaa = on_aws({"RestApiStatusCode": 200, "RestApiResponse": {"dag_runs": []}})
    assert environment.airflow("GET", "/dags", params={"limit": 1}) == {"dag_runs": []}
    assert mwaa.asked == [{"Name": "pipelines-prod", "Path": "/dags", "Method": "GET", "QueryParameters": {"limit": 1}}]


@pytest.mark.parametrize(
    ("method", "path", "attempts"),
    [("GET", "/dags", 3), ("POST", "/dags/~/dagRuns/list", 3), ("POST", "/dags/a/dagRuns", 1), ("PATCH", "/dags/a", 1)],
)
def test_airflow_on_aws_is_asked_once_where_a_second_call_would_start_a_second_run(
    method: str, path: str, attempts: int
) -> None:
    environment, mwaa = on_aws({"RestApiStatusCode": 200})
    assert environment.airflow(method, path, body={}) is None
    assert mwaa.retries["total_max_attempts"] == attempts
    assert mwaa.asked[0]["Body"] == {}


def test_answer_without_content_is_none() -> None:
    assert local(httpx.Response(204))[0].airflow("DELETE", "/dags/a") is None


@pytest.mark.parametrize("text", ["<html>busy", '["busy"]', '{"title": "busy"}'])
def test_refusal_without_a_detail_is_quoted_as_it_is(text: str) -> None:
    with pytest.raises(OpsError, match=r"Airflow answered 502: .*busy"):
        local(httpx.Response(502, text=text))[0].airflow("GET", "/dags")


def test_airflow_on_the_local_stack_is_asked_with_its_token() -> None:
    environment, asked = local(httpx.Response(200, json={"dags": []}))
    assert environment.airflow("POST", "/dags/~/dagRuns/list", body={"page_limit": 1}) == {"dags": []}
    assert str(asked[0].url) == "http://127.0.0.1:8080/api/v2/dags/~/dagRuns/list"
    assert asked[0].headers["Authorization"] == "Bearer t0ken"
    assert json.loads(asked[0].content) == {"page_limit": 1}


@pytest.mark.parametrize(
    "environment",
    [
        on_aws(
            ClientError(
                {
                    "Error": {"Code": "RestApiClientException", "Message": ""},
                    "RestApiStatusCode": 404,  # type: ignore[typeddict-unknown-key] # boto3 keeps all members
                    "RestApiResponse": {"detail": "no such DAG"},
                },
                "InvokeRestApi",
            )
        )[0],
        local(httpx.Response(404, json={"detail": "no such DAG"}))[0],
    ],
    ids=["MWAA", "local"],
)
def test_refusal_of_airflow_is_quoted(environment: Environment) -> None:
    with pytest.raises(OpsError, match=r"Airflow answered 404: .*no such DAG"):
        environment.airflow("GET", "/dags/nothing")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (NoCredentialsError(), "AWS_PROFILE"),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), "network.*make status"),
        (refusal("AccessDeniedException", 403), "not allowed; check AWS_PROFILE, and its rights"),
        (refusal("ResourceNotFoundException", 404), "--environment"),
        (refusal("UnrecognizedClientException", 403), "AWS_PROFILE"),
        (refusal("ExpiredTokenException", 403), "log in again$"),
        (refusal("ThrottlingException", 400), "try again in a minute$"),
        (refusal("TooManyRequestsException", 429), "try again in a minute$"),
        (refusal("InternalServerException", 500), "try again in a minute$"),
    ],
)
def test_error_of_aws_says_what_to_check(error: Exception, advice: str) -> None:
    with pytest.raises(OpsError, match=advice):
        on_aws(error)[0].airflow("GET", "/dags")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (refusal("InternalServerException", 500), "may have been done"),
        (ReadTimeoutError(endpoint_url="http://127.0.0.1:1"), "may have been done"),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), "check the network"),
        (refusal("AccessDeniedException", 403), "its rights"),
    ],
)
def test_change_that_aws_may_have_made_is_not_to_be_repeated_unseen(error: Exception, advice: str) -> None:
    with pytest.raises(OpsError, match=advice):
        on_aws(error)[0].airflow("POST", "/dags/a/dagRuns")


@pytest.mark.parametrize(("name", "value"), [("AWS_DEFAULT_REGION", ""), ("AWS_ENDPOINT_URL", "localhost:4566")])
def test_region_or_address_of_the_shell_that_is_none_is_said(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv(name, value)
    with pytest.raises(OpsError, match="check AWS_DEFAULT_REGION and AWS_ENDPOINT_URL"):
        Environment.open("prod").aws("cloudformation")


class Logs:
    """CloudWatch Logs' client, session and paginator, with one message."""

    asked: dict[str, Any]

    def client(self, service: str, **options: Any) -> Any:
        return self

    def get_paginator(self, operation: str) -> Any:
        return self

    def paginate(self, **request: Any) -> list[dict[str, Any]]:
        self.asked = request
        return [{"events": []}, {"events": [{"message": "refused: \x1b[2J\u202etxet\n\tat line 1\n"}]}]


def test_log_with_texts_of_partners_does_not_steer_the_terminal() -> None:
    environment = Environment("prod", Logs(), None, {}, httpx.Client())
    assert environment.log("airflow-pipelines-prod-Task", hours=1) == "refused: \\x1b[2J\\x202etxet\n        at line 1"


def test_log_of_a_fault_that_is_hours_old_can_be_read() -> None:
    logs, before = Logs(), time.time()
    Environment("prod", logs, None, {}, httpx.Client()).log("/aws/lambda/orders-api", hours=12)
    assert logs.asked["logGroupName"] == "/aws/lambda/orders-api"
    assert int((before - 43_200) * 1000) <= logs.asked["startTime"] <= (time.time() - 43_200) * 1000


def test_what_is_not_airflow_is_said() -> None:
    with pytest.raises(OpsError, match="8080 is not Airflow"):
        local(httpx.Response(200, text="<html>"))[0].airflow("GET", "/dags")


def test_stack_that_does_not_answer_says_where_to_look() -> None:
    environment = Environment(
        "local", None, None, STACK, httpx.Client(transport=httpx.MockTransport(raising(httpx.ConnectError("refused"))))
    )
    with pytest.raises(OpsError, match="make status"):
        environment.airflow("GET", "/dags")
