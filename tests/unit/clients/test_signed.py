import asyncio
import functools
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import aiohttp
import boto3
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)

from include.clients.aws import aws_errors
from include.clients.signed import SignedClient, aws_tls
from include.errors import AwsRefusedError, AwsUnavailableError
from tests.worlds.http import PUBLIC, FakeNetwork, Hang

ODD_KEY = "a b/ü+%~*'()!$&,;=:@?#//../x.json"
LOCAL = f"http://{PUBLIC}:4566"
new_client: Callable[..., Any] = boto3.Session("AKIDEXAMPLE", "secret", "token").client
CREDENTIALS = Credentials("AKIDEXAMPLE", "secret", "token")
OBJECT = {
    "Bucket": "evidence",
    "Key": "trigger/7.json",
    "Body": b"[1]",
    "ContentType": "application/json",
    "ServerSideEncryption": "AES256",
    "Metadata": {"client_id": "7", "sha256": "0" * 64},
    "IfNoneMatch": "*",
    "ObjectLockMode": "COMPLIANCE",
    "ObjectLockRetainUntilDate": datetime(2026, 3, 18, 12, tzinfo=UTC),
}


def reply(status: int, body: bytes = b"", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def refused(status: int, code: str, *headers: str) -> bytes:
    return reply(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), *headers)


class Names(AbstractResolver):
    """Every name is that of the one server there is."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host=PUBLIC, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None: ...


def boto(service: str, *, region: str = "eu-west-1", endpoint: str | None = LOCAL, **options: Any) -> Any:
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 4},
        read_timeout=options.pop("read_timeout", 60),
        max_pool_connections=options.pop("connections", 10),
    )
    return new_client(service, region_name=region, endpoint_url=endpoint, config=config, verify=False, **options)


def calling(
    action: Callable[[SignedClient], Awaitable[Any]],
    network: FakeNetwork,
    client: Any = None,
    *,
    credentials: Callable[[], Credentials | None] = lambda: CREDENTIALS,
    pauses: list[float] | None = None,
) -> Any:
    """What ``action`` returns for a client whose calls this network gets."""

    async def pause(seconds: float) -> None:
        (pauses if pauses is not None else []).append(seconds)

    async def run() -> Any:
        connector = functools.partial(aiohttp.TCPConnector, socket_factory=network.open_socket, resolver=Names())
        opened = SignedClient(client or boto("s3"), credentials, verify=False, connector=connector, sleep=pause)
        async with opened:
            return await action(opened)

    return asyncio.run(run())


def put(network: FakeNetwork, client: Any = None, **options: Any) -> Any:
    return calling(lambda signed: signed.call("PutObject", **OBJECT), network, client, **options)


def sent(network: FakeNetwork) -> list[tuple[str, dict[str, str], bytes]]:
    """Request line, headers by lower name, and body of each request."""
    found = []
    for stream in network.streams:
        data = bytes(stream.written)
        while data:
            head, _, data = data.partition(b"\r\n\r\n")
            line, *rest = head.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
            length = int(headers.get("content-length", 0))
            found.append((line, headers, data[:length]))
            data = data[length:]
    return found


class Seen(Exception):  # noqa: N818 - no error
    """Ends a call of boto3 before it is sent."""


def as_botocore_sends(client: Any, operation: str, **parameters: Any) -> Any:
    seen = []

    def note(request: Any, **_: Any) -> None:
        seen.append(request)
        raise Seen

    client.meta.events.register("before-send", note)
    with pytest.raises(Seen):
        getattr(client, operation)(**parameters)
    client.meta.events.unregister("before-send", note)
    return seen[0]


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1"])
@pytest.mark.parametrize("endpoint", [None, LOCAL, "https://s3.emulator.test"])
@pytest.mark.parametrize("bucket", ["evidence", "evi.dence", "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap"])
def test_an_object_is_written_where_and_as_botocore_writes_it(region: str, endpoint: str | None, bucket: str) -> None:
    if bucket.startswith("arn") and region in ("cn-north-1", "us-gov-west-1"):
        bucket = bucket.replace("aws", "aws-cn" if region.startswith("cn") else "aws-us-gov").replace(
            "eu-west-1", region
        )
    wanted = {**OBJECT, "Bucket": bucket, "Key": ODD_KEY}
    network = FakeNetwork({PUBLIC: [reply(200)]})
    calling(lambda signed: signed.call("PutObject", **wanted), network, boto("s3", region=region, endpoint=endpoint))
    theirs = as_botocore_sends(boto("s3", region=region, endpoint=endpoint), "put_object", **wanted)
    ((line, headers, body),) = sent(network)
    scheme = theirs.url.partition(":")[0]
    assert f"{scheme}://{headers['host']}{line.split(' ')[1]}" == theirs.url
    assert (line.split(" ")[0], body) == ("PUT", b"[1]")
    expected = {
        name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in theirs.headers.items()
    }
    # How the body is framed, and what names the sender.
    for name in (
        "expect",
        "transfer-encoding",
        "content-encoding",
        "content-length",
        "x-amz-trailer",
        "amz-sdk-request",
        "user-agent",
        "x-amz-decoded-content-length",
        "x-amz-sdk-checksum-algorithm",
        "amz-sdk-invocation-id",
    ):
        expected.pop(name, None)
    for name in ("x-amz-date", "x-amz-content-sha256", "authorization"):
        assert headers[name]
        # Less its day: midnight may come between theirs and ours.
        scope = "/".join(expected.pop(name).split("/")[2:]).partition(",")[0]
        assert scope in headers[name]
    assert expected.items() <= headers.items()
    assert headers["x-amz-checksum-crc32"] == "TC8yuA=="


def signature_holds(request: tuple[str, dict[str, str], bytes], signer: Any, service: str) -> bool:
    """Whether a request that came carries the signature of what came."""
    line, headers, body = request
    names = headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    again = AWSRequest(
        line.split(" ")[0],
        f"http://{headers['host']}{line.split(' ')[1]}",
        data=body,
        headers={name: headers[name] for name in names if name not in ("host", "x-amz-date", "x-amz-security-token")},
    )
    moment = headers["x-amz-date"]

    class Then(signer):
        def _modify_request_before_signing(self, request: Any) -> None:
            super()._modify_request_before_signing(request)
            del request.headers["X-Amz-Date"]
            request.headers["X-Amz-Date"] = moment
            request.context["timestamp"] = moment

    Then(CREDENTIALS, service, "eu-west-1").add_auth(again)
    return str(again.headers["Authorization"]) == headers["authorization"]


def test_what_comes_is_what_was_signed() -> None:
    network = FakeNetwork({PUBLIC: [reply(200)]})
    put(network)
    ((line, headers, body),) = sent(network)
    assert signature_holds((line, headers, body), S3SigV4Auth, "s3")
    assert headers["x-amz-security-token"] == "token"
    assert not signature_holds((line, headers, b"[2]"), S3SigV4Auth, "s3")


def test_answers_are_read_as_boto3_reads_them() -> None:
    stored = (
        'ETag: "e"',
        "x-amz-version-id: v1",
        "x-amz-meta-sha256: ab",
        "Last-Modified: Sun, 08 Mar 2026 12:00:00 GMT",
    )
    network = FakeNetwork({PUBLIC: [reply(200, b"", *stored), reply(200, b"\xff[1]", *stored)]})

    async def action(signed: SignedClient) -> None:
        head = await signed.call("HeadObject", Bucket="evidence", Key="k")
        assert (head["ETag"], head["VersionId"], head["Metadata"], head["ContentLength"]) == (
            '"e"',
            "v1",
            {"sha256": "ab"},
            0,
        )
        assert head["LastModified"] == datetime(2026, 3, 8, 12, tzinfo=UTC)
        found = await signed.call("GetObject", Bucket="evidence", Key="k", VersionId="v 1", IfMatch='"e"')
        assert found["Body"].read() == b"\xff[1]"

    calling(action, network)
    lines = [line for line, _, _ in sent(network)]
    assert lines == ["HEAD /evidence/k HTTP/1.1", "GET /evidence/k?versionId=v%201 HTTP/1.1"]
    assert len(network.streams) == 1, "the connection is kept"


def test_a_key_that_begins_with_its_buckets_name_stays_whole() -> None:
    client = boto("s3")
    network = FakeNetwork({PUBLIC: [reply(200)]})
    for _ in range(2):
        calling(lambda signed: signed.call("HeadObject", Bucket="b-b", Key="b-b/b-b/x"), network, client)
        # Such a call changes botocore's model of the operation.
        as_botocore_sends(client, "head_object", Bucket="b-b", Key="x")
    assert [line for line, _, _ in sent(network)] == ["HEAD /b-b/b-b/b-b/x HTTP/1.1"] * 2


@pytest.mark.parametrize(
    ("answer", "code", "error"),
    [
        (refused(412, "PreconditionFailed"), "PreconditionFailed", AwsUnavailableError),
        (reply(412), "412", AwsUnavailableError),
        (refused(409, "ConditionalRequestConflict"), "ConditionalRequestConflict", AwsUnavailableError),
        (refused(403, "RequestTimeTooSkewed"), "RequestTimeTooSkewed", AwsUnavailableError),
        (refused(404, "NoSuchBucket"), "NoSuchBucket", AwsRefusedError),
        (reply(404, b"<html>nothing</html>"), "404", AwsRefusedError),
        (refused(403, "AccessDenied"), "AccessDenied", AwsRefusedError),
        (refused(400, "ExpiredToken"), "ExpiredToken", AwsRefusedError),
        (reply(304), "304", AwsRefusedError),
    ],
)
def test_a_refusal_is_that_of_boto3_and_not_repeated(answer: bytes, code: str, error: type[Exception]) -> None:
    network = FakeNetwork({PUBLIC: [answer]})
    with pytest.raises(error, match=code), aws_errors("S3", "write"):
        put(network)
    assert len(sent(network)) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        refused(503, "SlowDown"),
        refused(500, "InternalError"),
        reply(502, b"<html>bad gateway</html>"),
        refused(400, "RequestTimeout"),
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"nonsense\r\n\r\n",
    ],
)
def test_what_passes_is_tried_again_after_growing_pauses(trouble: bytes) -> None:
    network = FakeNetwork({PUBLIC: [[trouble, b""], [trouble, b""], reply(200, b"", "x-amz-version-id: v3")]})
    pauses: list[float] = []
    assert put(network, pauses=pauses)["VersionId"] == "v3"
    assert len(pauses) in (1, 2), "aiohttp itself repeats a request once, whose used connection was closed"
    assert all(0.2 * 2**number <= pause <= 0.3 * 2**number for number, pause in enumerate(pauses))


def test_several_threads_may_share_a_boto3_client() -> None:
    client = boto("s3")

    def write(_: int) -> int:
        network = FakeNetwork({PUBLIC: [reply(200)]})
        put(network, client)
        return len(sent(network))

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(write, range(64))) == [1] * 64


def test_after_four_attempts_the_last_failure_is_reported() -> None:
    network = FakeNetwork({PUBLIC: [refused(503, "SlowDown")]})
    pauses: list[float] = []
    with pytest.raises(ClientError, match="SlowDown"):
        put(network, pauses=pauses)
    assert len(sent(network)) == 4
    assert len(pauses) == 3


@pytest.mark.parametrize(
    ("servers", "client", "error"),
    [
        ({}, {}, EndpointConnectionError),
        ({PUBLIC: [[b"HTTP/1.1 200 OK\r\n", Hang()]]}, {"read_timeout": 0.05}, ReadTimeoutError),
        ({PUBLIC: [ssl.SSLError("broken")]}, {"endpoint": f"https://{PUBLIC}"}, BotoCoreError),
    ],
)
def test_no_answer_is_that_of_botocore(servers: dict[str, Any], client: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        put(FakeNetwork(servers), boto("s3", **client))


async def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    network = FakeNetwork({PUBLIC: [reply(200)]})
    connector = functools.partial(aiohttp.TCPConnector, socket_factory=network.open_socket)
    client = boto("s3", endpoint=f"https://{PUBLIC}")
    async with SignedClient(client, lambda: CREDENTIALS, connector=connector, sleep=lambda _: asyncio.sleep(0)) as s3:
        with pytest.raises(SSLError):
            await s3.call("PutObject", **OBJECT)
    assert sent(network) == []


def test_without_credentials_nothing_is_sent() -> None:
    network = FakeNetwork({PUBLIC: [reply(200)]})
    client = boto("dynamodb")
    with pytest.raises(NoCredentialsError):
        calling(lambda signed: signed.call("ListTables"), network, client, credentials=lambda: None)
    assert network.asked == []


@pytest.mark.parametrize("wrong", [{"Key": ""}, {"Metadata": {"a": 1}}, {"Typo": "x"}])
def test_parameters_are_checked_as_boto3_does_at_the_first_call(wrong: dict[str, Any]) -> None:
    network = FakeNetwork()
    with pytest.raises(ParamValidationError):
        calling(lambda signed: signed.call("PutObject", **{**OBJECT, **wrong}), network)
    assert network.asked == []


def test_a_key_is_never_empty() -> None:
    network = FakeNetwork({PUBLIC: [reply(200)]})

    async def action(signed: SignedClient) -> None:
        await signed.call("PutObject", **OBJECT)
        await signed.call("PutObject", **{**OBJECT, "Key": ""})

    with pytest.raises(ParamValidationError):
        calling(action, network)
    assert len(sent(network)) == 1


def test_a_bucket_in_another_region_is_found_once() -> None:
    client = boto("s3", endpoint=None)
    asked = []

    def answer(request: Any, **_: Any) -> Any:
        asked.append(request.url)
        moved = {"x-amz-bucket-region": "us-west-2"}
        return botocore_answer(request.url, 301 if len(asked) == 1 else 200, moved)

    # After that of the client, which only wants to know where it would be sent.
    client.meta.events.register_last("before-send.s3.HeadBucket", answer)
    network = FakeNetwork({PUBLIC: [refused(301, "PermanentRedirect"), reply(200)]})

    async def twice(signed: SignedClient) -> None:
        await signed.call("PutObject", **OBJECT)
        await signed.call("PutObject", **OBJECT)

    calling(twice, network, client)
    hosts = [headers["host"] for _, headers, _ in sent(network)]
    assert hosts == ["evidence.s3.eu-west-1.amazonaws.com", *["evidence.s3.us-west-2.amazonaws.com"] * 2]
    assert "/us-west-2/s3/" in sent(network)[-1][1]["authorization"]


def botocore_answer(url: str, status: int, headers: dict[str, str]) -> Any:
    from botocore.awsrequest import AWSResponse

    class Raw:
        def stream(self, *_: Any, **__: Any) -> list[bytes]:
            return []

    return AWSResponse(url, status, headers, Raw())


def test_a_call_of_dynamodb_goes_as_json_and_comes_as_json() -> None:
    network = FakeNetwork({PUBLIC: [reply(200, b'{"Responses": []}'), reply(200, b'{"TableNames": ["t"]}')]})

    async def action(signed: SignedClient) -> None:
        assert await signed.call_json("BatchExecuteStatement", b'{"Statements": []}') == b'{"Responses": []}'
        assert (await signed.call("ListTables", Limit=1))["TableNames"] == ["t"]

    calling(action, network, boto("dynamodb"))
    first, second = sent(network)
    assert first[0] == second[0] == "POST / HTTP/1.1"
    assert first[2] == b'{"Statements": []}'
    assert json.loads(second[2]) == {"Limit": 1}
    assert first[1]["x-amz-target"] == "DynamoDB_20120810.BatchExecuteStatement"
    assert first[1]["content-type"] == second[1]["content-type"] == "application/x-amz-json-1.0"
    assert signature_holds(first, SigV4Auth, "dynamodb")
    assert signature_holds(second, SigV4Auth, "dynamodb")


def test_calls_at_once_share_the_connections_that_the_boto3_client_keeps() -> None:
    network = FakeNetwork({PUBLIC: [reply(200, b"{}")]})

    async def action(signed: SignedClient) -> None:
        await asyncio.gather(*(signed.call_json("Query", b"{}") for _ in range(9)))

    calling(action, network, boto("dynamodb", connections=2))
    assert (len(network.streams), len(sent(network))) == (2, 9)


def test_fields_of_an_error_are_kept() -> None:
    answer = b'{"__type": "com.amazonaws#ConditionalCheckFailedException", "message": "no", "Item": {"pk": {"S": "x"}}}'
    network = FakeNetwork({PUBLIC: [reply(400, answer)]})
    with pytest.raises(ClientError) as raised:
        calling(lambda signed: signed.call_json("PutItem", b"{}"), network, boto("dynamodb"))
    assert raised.value.response["Error"]["Code"] == "ConditionalCheckFailedException"
    assert raised.value.response["Item"] == {"pk": {"S": "x"}}


def test_a_throttled_call_of_dynamodb_is_repeated() -> None:
    busy = reply(400, b'{"__type": "com.amazonaws#ProvisionedThroughputExceededException"}')
    network = FakeNetwork({PUBLIC: [busy, reply(200, b"{}")]})
    assert calling(lambda signed: signed.call_json("Query", b"{}"), network, boto("dynamodb")) == b"{}"


def test_a_large_body_goes_in_one_piece() -> None:
    network = FakeNetwork({PUBLIC: [reply(200)]})
    body = b"x" * 3_000_000
    calling(lambda signed: signed.call("PutObject", **{**OBJECT, "Body": body}), network)
    assert sent(network)[0][2] == body


def test_the_environments_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"{PUBLIC}:3128")
    network = FakeNetwork({PUBLIC: [reply(200)]})
    put(network, boto("s3", endpoint="http://s3.emulator.test"))
    assert network.asked == [(PUBLIC, 3128)]
    assert sent(network)[0][0].startswith("PUT http://s3.emulator.test/evidence/trigger/7.json")
    monkeypatch.setenv("no_proxy", "emulator.test")
    put(network, boto("s3", endpoint="http://s3.emulator.test"))
    assert network.asked[1:] == [(PUBLIC, 80)]
    monkeypatch.delenv("no_proxy")
    with pytest.raises(ProxyConnectionError, match="of the environment"):
        put(FakeNetwork({}), boto("s3", endpoint="http://s3.emulator.test"))


def test_certificates_are_those_that_botocore_would_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws_tls(False).verify_mode is ssl.CERT_NONE
    assert aws_tls(True).verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(FileNotFoundError):
        aws_tls("/no/such/bundle.pem")
    aws_tls.cache_clear()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/none/either.pem")
    with pytest.raises(FileNotFoundError):
        aws_tls(None)
