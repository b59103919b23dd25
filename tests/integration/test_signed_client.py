"""Signed calls to S3 and DynamoDB beside those of boto3 (spec: archive, Store)."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from include.clients.aws import error_code
from include.clients.signed import SignedClient
from tests.integration.conftest import Aws

ODD_KEY = "a b/ü+%~*'()!$&,;=:@?#.json"
BYTES = bytes(range(256)) * 20_000


@pytest.fixture(scope="module")
def account(emulator: str) -> Aws:
    """An account of this module's own, without the application."""
    return Aws(emulator, "200000000000", Path())


@pytest.fixture(scope="module")
def bucket(account: Aws) -> str:
    name = f"signed-{uuid.uuid4().hex}"
    account.s3.create_bucket(Bucket=name)
    account.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def signed[T](
    account: Aws, service: str, action: Callable[[SignedClient], Awaitable[T]], *, endpoint: str | None = None
) -> T:
    session = account.session()
    create: Callable[..., Any] = session.client
    config = Config(connect_timeout=60, retries={"mode": "standard", "total_max_attempts": 2})
    client = create(service, endpoint_url=endpoint or account.endpoint, config=config)

    async def run() -> T:
        async with SignedClient(client, session.get_credentials) as opened:
            return await action(opened)

    return asyncio.run(run())


@pytest.mark.parametrize("body", [b"", b"[1]", '"Zażółć 東京"'.encode(), BYTES], ids=["empty", "short", "text", "5 MB"])
@pytest.mark.parametrize("key", ["plain.json", ODD_KEY])
def test_object_is_kept_byte_for_byte_with_all_that_is_said_of_it(
    account: Aws, bucket: str, key: str, body: bytes
) -> None:
    async def action(s3: SignedClient) -> tuple[dict[str, Any], dict[str, Any], bytes]:
        written = await s3.call(
            "PutObject",
            Bucket=bucket,
            Key=key,
            Body=body,
            ContentType="application/json",
            ServerSideEncryption="AES256",
            Metadata={"client_id": "7"},
        )
        head = await s3.call("HeadObject", Bucket=bucket, Key=key)
        found = await s3.call("GetObject", Bucket=bucket, Key=key, IfMatch=head["ETag"])
        return written, head, found["Body"].read()

    written, head, read = signed(account, "s3", action)
    kept = account.s3.get_object(Bucket=bucket, Key=key)
    assert kept["Body"].read() == read == body
    assert (kept["ContentType"], kept["ServerSideEncryption"], kept["Metadata"]) == (
        "application/json",
        "AES256",
        {"client_id": "7"},
    )
    same = ("ETag", "VersionId", "ContentLength", "LastModified", "Metadata", "ContentType")
    assert {name: head[name] for name in same} == {name: kept[name] for name in same}
    assert written["VersionId"] == kept["VersionId"]


def test_of_many_first_writers_one_writes(account: Aws, bucket: str) -> None:
    async def write(s3: SignedClient, number: int) -> str:
        try:
            await s3.call("PutObject", Bucket=bucket, Key="raced", Body=b"%d" % number, IfNoneMatch="*")
        except ClientError as error:
            return error_code(error)
        return "written"

    async def action(s3: SignedClient) -> list[str]:
        return await asyncio.gather(*(write(s3, number) for number in range(40)))

    answers = signed(account, "s3", action)
    assert sorted(answers) == ["PreconditionFailed"] * 39 + ["written"]
    assert account.s3.get_object(Bucket=bucket, Key="raced")["Body"].read() == b"%d" % answers.index("written")


def test_write_over_what_was_seen_is_lost_when_it_changed(account: Aws, bucket: str) -> None:
    etag = account.s3.put_object(Bucket=bucket, Key="seen", Body=b"1")["ETag"]

    async def action(s3: SignedClient) -> str:
        await s3.call("PutObject", Bucket=bucket, Key="seen", Body=b"2", IfMatch=etag)
        with pytest.raises(ClientError) as lost:
            await s3.call("PutObject", Bucket=bucket, Key="seen", Body=b"3", IfMatch=etag)
        return error_code(lost.value)

    assert signed(account, "s3", action) == "PreconditionFailed"
    assert account.s3.get_object(Bucket=bucket, Key="seen")["Body"].read() == b"2"


@pytest.mark.parametrize(
    ("operation", "where", "code"),
    [
        ("HeadObject", {}, "404"),
        ("GetObject", {}, "NoSuchKey"),
        ("PutObject", {"Bucket": "no-such-bucket-here"}, "NoSuchBucket"),
    ],
)
def test_what_is_not_there_has_boto3s_codes(
    account: Aws, bucket: str, operation: str, where: dict[str, str], code: str
) -> None:
    async def action(s3: SignedClient) -> None:
        await s3.call(operation, **{"Bucket": bucket, "Key": "nowhere", **where})

    with pytest.raises(ClientError) as raised:
        signed(account, "s3", action)
    assert error_code(raised.value) == code


def test_nobody_there_is_reported_as_by_boto3(account: Aws, bucket: str) -> None:
    async def action(s3: SignedClient) -> None:
        await s3.call("HeadObject", Bucket=bucket, Key="k")

    # Port 1 is reserved and nothing listens on it.
    with pytest.raises(EndpointConnectionError):
        signed(account, "s3", action, endpoint="http://127.0.0.1:1")


def test_items_are_written_under_their_condition(account: Aws) -> None:
    account.dynamodb.create_table(
        TableName="signed",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    item = {"pk": {"S": "ü"}, "n": {"N": "12345678901234567890.5"}}

    async def action(dynamodb: SignedClient) -> dict[str, Any]:
        await dynamodb.call("PutItem", TableName="signed", Item=item)
        with pytest.raises(ClientError) as raised:
            await dynamodb.call(
                "PutItem",
                TableName="signed",
                Item={"pk": {"S": "ü"}},
                ConditionExpression="attribute_not_exists(pk)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        assert error_code(raised.value) == "ConditionalCheckFailedException"
        assert raised.value.response["Item"] == item
        assert b"12345678901234567890.5" in await dynamodb.call_json(
            "ExecuteStatement",
            b"""{"Statement": "SELECT * FROM \\"signed\\" WHERE pk = ?", "Parameters": [{"S": "\\u00fc"}]}""",
        )
        return await dynamodb.call("GetItem", TableName="signed", Key={"pk": {"S": "ü"}})

    assert signed(account, "dynamodb", action)["Item"] == item
