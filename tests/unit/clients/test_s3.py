import json

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ParamValidationError, ReadTimeoutError

from include.clients.s3 import create_json, get_json, put_json, s3_errors, split_uri
from include.errors import PipelineError, StorageRefusedError, StorageUnavailableError
from tests.worlds.s3 import FakeS3, raising, s3_error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (s3_error("SlowDown"), StorageUnavailableError),
        (s3_error("InternalError"), StorageUnavailableError),
        (s3_error("PreconditionFailed"), StorageUnavailableError),
        (s3_error("ConditionalRequestConflict"), StorageUnavailableError),
        (EndpointConnectionError(endpoint_url="https://s3.test"), StorageUnavailableError),
        (ReadTimeoutError(endpoint_url="https://s3.test"), StorageUnavailableError),
        (s3_error("AccessDenied"), StorageRefusedError),
        (s3_error("NoSuchBucket"), StorageRefusedError),
        (ParamValidationError(report="Invalid bucket name"), StorageRefusedError),
        (NoCredentialsError(), StorageRefusedError),
    ],
    ids=str,
)
def test_botocore_errors_become_ours(error: Exception, expected: type[PipelineError]) -> None:
    with pytest.raises(expected, match=r"cannot write s3://archive/key"), s3_errors("write s3://archive/key"):
        raise error


def test_bucket_name_that_boto_itself_refuses_is_permanent() -> None:
    s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    with pytest.raises(StorageRefusedError, match="bucket's name in settings"):
        get_json(s3, "no bucket", "documents/one.json")


def test_error_that_is_none_of_s3_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), s3_errors("divide"):
        raise ZeroDivisionError


def test_document_is_read_as_it_was_written() -> None:
    s3 = FakeS3()
    document = {"name": "Zażółć", "numbers": [1, None, True], "nested": {"a": "b"}}
    put_json(s3, "archive", "documents/one.json", document)
    assert get_json(s3, "archive", "documents/one.json") == document
    (version,) = s3.objects["documents/one.json"]
    assert version.arguments["ServerSideEncryption"] == "AES256"
    assert version.arguments["ContentType"] == "application/json"
    assert json.loads(version.body or b"") == document


def test_half_a_surrogate_pair_is_written_like_any_text() -> None:
    fake = FakeS3()
    put_json(fake, "archive", "documents/one.json", {"key": "\ud800"})
    assert json.loads((fake.bodies("documents/one.json")[0] or b"").decode("utf-8")) == {"key": "\ud800"}


def test_document_is_created_once() -> None:
    s3 = FakeS3()
    assert create_json(s3, "archive", "documents/one.json", {"first": "Zażółć \ud800"})
    assert not create_json(s3, "archive", "documents/one.json", {"second": True})
    assert get_json(s3, "archive", "documents/one.json") == {"first": "Zażółć \ud800"}
    (version,) = s3.objects["documents/one.json"]
    assert version.arguments["ServerSideEncryption"] == "AES256"


def test_creation_that_fails_is_not_a_document_that_is_there() -> None:
    with pytest.raises(StorageRefusedError, match="NoSuchBucket"):
        create_json(FakeS3(), "typo", "documents/one.json", {})


def test_uri_is_split_into_bucket_and_key() -> None:
    assert split_uri("s3://bucket/a/b:c+d/e.json") == ("bucket", "a/b:c+d/e.json")


def test_absent_document_is_none() -> None:
    assert get_json(FakeS3(), "archive", "documents/none.json") is None


@pytest.mark.parametrize("code", ["404", "NoSuchKey"])
def test_answer_whose_body_cannot_be_read_has_its_status_as_code_and_means_not_there(code: str) -> None:
    s3 = FakeS3()
    put_json(s3, "archive", "documents/one.json", {})
    s3.before["GetObject"] = raising(s3_error(code, "GetObject"))
    assert get_json(s3, "archive", "documents/one.json") is None


@pytest.mark.parametrize("code", ["412", "PreconditionFailed"])
def test_document_that_is_there_already_is_not_written_again_also_if_the_answer_has_no_code(code: str) -> None:
    s3 = FakeS3()
    s3.before["PutObject"] = raising(s3_error(code, "PutObject"))
    assert create_json(s3, "archive", "documents/one.json", {}) is False


def test_absent_bucket_is_an_error_and_not_an_absent_document() -> None:
    with pytest.raises(StorageRefusedError, match="NoSuchBucket"):
        get_json(FakeS3(), "typo", "documents/none.json")
