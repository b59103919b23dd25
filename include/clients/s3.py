"""JSON documents in a bucket, and the errors of S3."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from include.clients.aws import aws_errors, error_code
from include.errors import StorageRefusedError, StorageUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
"""Codes of a key that is not there: an answer without a body, or with one that cannot be read, has its status only."""

CONDITION_FAILED = frozenset({"412", "PreconditionFailed"})
"""Codes of a conditional request whose condition does not hold."""


def s3_errors(what: str) -> AbstractContextManager[None]:
    """Translate botocore's errors inside the block to StorageUnavailableError and StorageRefusedError.

    Args:
        what: names the action in the message, such as ``write s3://bucket/key``.
    """
    return aws_errors(
        "S3",
        what,
        unavailable=StorageUnavailableError,
        refused=StorageRefusedError,
        check="the bucket's name in settings",
    )


def put_json(s3: S3Client, bucket: str, key: str, document: object) -> None:
    """Write ``document`` as JSON to ``s3://bucket/key``, encrypted."""
    with s3_errors(f"write s3://{bucket}/{key}"):
        s3.put_object(**_json_object(bucket, key, document))


def create_json(s3: S3Client, bucket: str, key: str, document: object) -> bool:
    """Write ``document`` as JSON to ``s3://bucket/key``, encrypted, unless something is there already.

    Returns:
        whether it was written; of several writers one gets True.
    """
    with s3_errors(f"write s3://{bucket}/{key}"):
        try:
            s3.put_object(**_json_object(bucket, key, document), IfNoneMatch="*")
        except ClientError as error:
            if error_code(error) in CONDITION_FAILED:
                return False
            raise
    return True


def _json_object(bucket: str, key: str, document: object) -> dict[str, Any]:
    return {
        "Bucket": bucket,
        "Key": key,
        # ASCII: what other systems wrote may hold half a surrogate pair, which UTF-8 cannot encode.
        "Body": json.dumps(document, separators=(",", ":")).encode("ascii"),
        "ContentType": "application/json",
        "ServerSideEncryption": "AES256",
    }


def split_place(place: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``."""
    bucket, _, key = place.removeprefix("s3://").partition("/")
    return bucket, key


def get_json(s3: S3Client, bucket: str, key: str) -> Any:
    """The JSON document at ``s3://bucket/key``, or None when there is none."""
    with s3_errors(f"read s3://{bucket}/{key}"):
        try:
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error_code(error) in MISSING:
                return None
            raise
    return json.loads(body)
