import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import boto3
import certifi
import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

from airflow_ext.hooks.aws import (
    SESSION_SECONDS,
    AwsSession,
    SharedSessionFactory,
    lambda_client,
    preload,
    s3_client,
    signed_client,
    sns_client,
)
from airflow_ext.outside import outside
from include.clients.lambda_function import READ_TIMEOUT_SECONDS
from tests.worlds.alerts import ENVIRONMENT
from tests.worlds.s3 import raising

FUNCTION_TIMEOUT_SECONDS = 30
"""Of both Lambdas (infra/template.yaml)."""


@pytest.fixture(autouse=True)
def aws_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", ENVIRONMENT["AIRFLOW_CONN_AWS_DEFAULT"])


def test_lambda_client_calls_once_and_outwaits_the_function() -> None:
    config = lambda_client(max_connections=7).meta.config
    assert config.retries == {"mode": "standard", "total_max_attempts": 1}
    assert config.read_timeout == READ_TIMEOUT_SECONDS > FUNCTION_TIMEOUT_SECONDS
    assert config.connect_timeout == 5
    assert config.max_pool_connections == 7


def test_sns_client_is_bounded() -> None:
    config = sns_client(max_connections=4, attempts=2).meta.config
    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (5, 10, 4)
    assert config.retries == {"mode": "standard", "total_max_attempts": 2}


def test_clients_of_one_session_follow_the_connection_which_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    session = AwsSession()
    first = s3_client(session=session)
    monkeypatch.delenv("AIRFLOW_CONN_AWS_DEFAULT")
    for client in (first, lambda_client(session=session)):
        assert client.meta.endpoint_url == "http://aws.test"
        assert client.meta.region_name == "us-east-1"


def test_client_is_as_the_providers_hook_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"region_name": "eu-west-1", "service_config": {"lambda": {"endpoint_url": "http://lambda.test"}}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": extra}))
    theirs = AwsBaseHook(aws_conn_id="aws_default", client_type="lambda").get_conn()
    ours = lambda_client()
    assert (ours.meta.endpoint_url, ours.meta.region_name) == (theirs.meta.endpoint_url, theirs.meta.region_name)
    assert ours.meta.endpoint_url == "http://lambda.test"


def test_signed_client_trusts_the_bundle_that_boto3_would(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"region_name": "eu-west-1", "endpoint_url": "https://aws.test"}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": extra}))

    async def opened() -> None:
        async with signed_client("dynamodb"):
            pass

    monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such/bundle.pem")
    with pytest.raises(FileNotFoundError):
        asyncio.run(opened())
    extra["verify"] = certifi.where()
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": extra}))
    asyncio.run(opened())


def made(extra: dict[str, str] | None) -> boto3.Session:
    """The session that the provider's hook or secrets backend gets for a connection with this ``extra``."""
    wrapper = extra and AwsConnectionWrapper.from_connection_metadata(conn_id="c", extra=extra)
    return SharedSessionFactory(conn=wrapper or None, region_name=None).create_session()


def test_sessions_of_equal_connections_are_shared_and_others_have_their_own_credentials() -> None:
    keys = {"aws_access_key_id": "AKIA1", "aws_secret_access_key": "one", "region_name": "eu-west-1"}
    first, again = made(keys), made(dict(keys))
    other = made({**keys, "aws_access_key_id": "AKIA2"})
    assert first is again
    for session, key in ((first, "AKIA1"), (other, "AKIA2")):
        credentials = session.get_credentials()
        assert (credentials.access_key, session.region_name) == (key, "eu-west-1")
    assert made({"region_name": "us-west-2"}).region_name == "us-west-2"


def test_session_without_a_connection_takes_what_boto3_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA3")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "three")
    credentials = made(None).get_credentials()
    assert (credentials.access_key, made(None).region_name) == ("AKIA3", "ap-south-1")


def test_sessions_are_neither_kept_for_long_nor_shared_between_threads() -> None:
    extra = {"region_name": "eu-west-3"}
    with outside.replaced(monotonic=lambda: 1000.0):
        first = made(extra)
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(made, extra).result() is not first
    with outside.replaced(monotonic=lambda: 1000.0 + SESSION_SECONDS):
        assert made(extra) is not first


def test_services_of_the_tasks_are_loaded_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    preload()
    monkeypatch.setattr(
        "botocore.loaders.JSONFileLoader.load_file", raising(AssertionError("a service description was read from disk"))
    )
    preload()
    for make in (s3_client, lambda_client, sns_client):
        make()
    with pytest.raises(AssertionError, match="read from disk"):
        boto3.Session(region_name="us-east-1").client("s3")
