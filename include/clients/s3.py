"""JSON documents in a bucket, and the errors of S3."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from include.clients.aws import aws_errors, unless
from include.errors import StorageRefusedError, StorageUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MISSING = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})
"""Codes of an object that is not there; an answer without a body, or with an unreadable one, has its status only."""

NO_VERSION = MISSING | {"InvalidArgument", "KeyTooLongError", "MethodNotAllowed"}
"""The same for a version that somebody names: its id may be none that S3 gives, or that of a delete marker."""

CONDITION_FAILED = frozenset({"412", "PreconditionFailed"})
"""Codes of a conditional request whose condition does not hold."""


def s3_errors(what: str) -> AbstractContextManager[None]:
    """Translate botocore's errors inside the block to StorageUnavailableError and StorageRefusedError."""
    check, refused = "the bucket's name in settings", StorageRefusedError
    return aws_errors("S3", what, unavailable=StorageUnavailableError, refused=refused, check=check)


def put_object(
    s3: S3Client, bucket: str, key: str, body: bytes, *, none_for: Set[str] = frozenset(), **more: Any
) -> Mapping[str, Any] | None:
    """Write JSON text, encrypted; S3's answer, or None if it refuses with one of the codes ``none_for``.

    ``more`` are arguments of boto3's, such as ``IfNoneMatch="*"``.
    """
    with s3_errors(f"write s3://{bucket}/{key}"), unless(none_for):
        return s3.put_object(
            Bucket=bucket, Key=key, Body=body, ContentType="application/json", ServerSideEncryption="AES256", **more
        )
    return None


def get_object(
    s3: S3Client, bucket: str, key: str, *, none_for: Set[str] = MISSING, **more: Any
) -> tuple[bytes, Mapping[str, Any]] | None:
    """An object's bytes and S3's answer, or None if it refuses with one of the codes ``none_for``."""
    with s3_errors(f"read s3://{bucket}/{key}"), unless(none_for):
        answer = s3.get_object(Bucket=bucket, Key=key, **more)
        return answer["Body"].read(), answer
    return None


def put_json(s3: S3Client, bucket: str, key: str, document: object) -> None:
    """Write a document as JSON."""
    put_object(s3, bucket, key, json_bytes(document))


def create_json(s3: S3Client, bucket: str, key: str, document: object) -> bool:
    """Write a document as JSON, unless something is there; whether it was written: of several writers one gets True."""
    body = json_bytes(document)
    return put_object(s3, bucket, key, body, none_for=CONDITION_FAILED, IfNoneMatch="*") is not None


def get_json(s3: S3Client, bucket: str, key: str) -> Any:
    """A JSON document, or None when there is none."""
    found = get_object(s3, bucket, key)
    return json.loads(found[0]) if found else None


def json_bytes(document: object) -> bytes:
    """A document as JSON."""
    # ASCII: what other systems wrote may hold half a surrogate pair, which UTF-8 cannot encode.
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
