"""The proxy of ``make chaos`` between boto3 and the emulator."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, IncompleteReadError

from include.clients.aws import error_code, is_busy
from local.processes.layout import LOOPBACK, choose_ports
from tests.chaos.aws import SERVICES, AwsProxy, Weather
from tests.integration.conftest import Aws


@pytest.fixture
def proxied(emulator: str) -> Iterator[tuple[AwsProxy, Callable[[str], Any]]]:
    """The proxy, and what makes clients that call through it, once a call."""
    account, port = Aws(emulator, "300000000000", Path()), choose_ports("proxy")["proxy"]
    once = Config(retries={"mode": "standard", "total_max_attempts": 1})
    proxy = AwsProxy(emulator, port, 1)

    def client(service: str) -> Any:
        return account.session().client(service, endpoint_url=proxy.url, config=once)

    with proxy.listening():
        yield proxy, client


Proxied = tuple[AwsProxy, Callable[[str], Any]]
BODY = bytes(range(256)) * 4000


READS = {
    "s3": "list_buckets",
    "dynamodb": "list_tables",
    "sqs": "list_queues",
    "sns": "list_topics",
    "secretsmanager": "list_secrets",
}


def test_calls_of_every_service_pass_as_they_are(proxied: Proxied) -> None:
    proxy, client = proxied
    for service, read in READS.items():
        assert getattr(client(service), read)()["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert proxy.calls == dict.fromkeys(SERVICES, 1)
    s3, bucket, key = client("s3"), f"chaos-{uuid.uuid4().hex}", "a b/ü+%~*'()!$&,;=:@?#.json"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=key, Body=BODY, Metadata={"day": "2026-03-01"})
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == BODY
    found = s3.head_object(Bucket=bucket, Key=key)
    assert (found["ContentLength"], found["Metadata"]) == (len(BODY), {"day": "2026-03-01"})
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Key"] == key


@pytest.mark.parametrize("service", SERVICES)
def test_a_throttle_is_one_that_every_client_knows(proxied: Proxied, service: str) -> None:
    proxy, client = proxied
    proxy.weather = [Weather(service, "busy", 1.0)]
    with pytest.raises(ClientError) as caught:
        getattr(client(service), READS[service])()
    assert is_busy(caught.value)
    assert proxy.spoilt == {(service, "busy"): 1}


@pytest.mark.parametrize("service", SERVICES)
def test_a_failure_of_the_service_is_one(proxied: Proxied, service: str) -> None:
    proxy, client = proxied
    proxy.weather = [Weather(service, "error", 1.0)]
    with pytest.raises(ClientError) as caught:
        getattr(client(service), READS[service])()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert error_code(caught.value) == "InternalError"


@pytest.mark.parametrize(
    ("kind", "outcome", "effect"),
    [
        ("cut before", pytest.raises(ConnectionClosedError), False),
        ("error", pytest.raises(ClientError), False),
        ("error after", pytest.raises(ClientError), True),
        ("cut after", pytest.raises(ConnectionClosedError), True),
        ("slow", nullcontext(), True),
    ],
)
def test_a_call_takes_effect_or_not_as_ordered(
    proxied: Proxied, kind: Any, outcome: AbstractContextManager[Any], effect: bool
) -> None:
    proxy, client = proxied
    s3, bucket = client("s3"), f"chaos-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=bucket)
    proxy.weather = [Weather("s3", kind, 1.0)]
    with outcome:
        s3.put_object(Bucket=bucket, Key="one", Body=b"1")
    proxy.weather = []
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == effect


def test_an_answer_is_cut_in_its_middle(proxied: Proxied) -> None:
    proxy, client = proxied
    s3, bucket = client("s3"), f"chaos-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="one", Body=BODY)
    proxy.weather = [Weather("s3", "cut in the answer", 1.0)]
    with pytest.raises((IncompleteReadError, BotoCoreError)):
        s3.get_object(Bucket=bucket, Key="one")["Body"].read()


def test_messages_come_again_and_in_another_order(proxied: Proxied) -> None:
    proxy, client = proxied
    sqs = client("sqs")
    queue = sqs.create_queue(QueueName=f"chaos-{uuid.uuid4().hex}")["QueueUrl"]
    for number in range(12):
        sqs.send_message(QueueUrl=queue, MessageBody=str(number))
    proxy.weather = [Weather("sqs", "again", 1.0)]
    received: list[list[str]] = []
    while not received or received[-1]:
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=4)
        received.append([message["Body"] for message in answer.get("Messages", [])])
    numbers = [number for some in received for number in some]
    assert set(numbers) == set(map(str, range(12)))
    assert len(numbers) > 12
    assert any(some != sorted(some, key=int) for some in received)


def test_what_arrives_is_what_was_signed() -> None:
    arrived: dict[str, str] = {}

    class Upstream(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            arrived.update({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None: ...

    port = choose_ports("proxy")["proxy"]
    with HTTPServer((LOOPBACK, 0), Upstream) as upstream:
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        url = f"http://{LOOPBACK}:{port}/bucket/a%20b%2B?versionId=1&x=%2F"
        request = AWSRequest("GET", url)
        S3SigV4Auth(Credentials("key", "secret"), "s3", "us-east-1").add_auth(request)
        with AwsProxy(f"http://{LOOPBACK}:{upstream.server_port}", port, 1).listening():
            urlopen(Request(url, headers=dict(request.headers)))
        upstream.shutdown()
    assert arrived["host"] == f"{LOOPBACK}:{port}"
    assert url.endswith(arrived["path"])
    assert {name.lower(): value for name, value in request.headers.items()}.items() <= arrived.items()
