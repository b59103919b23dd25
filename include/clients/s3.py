"""S3 calls with typed errors, and JSON documents in a bucket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

from include.errors import StorageRefusedError, StorageUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TRANSIENT_CODES = frozenset(
    {
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "PreconditionFailed",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
    }
)
_SERVER_ERROR = 500


def error_code(error: ClientError) -> str:
    """The S3 error code of a failed call, such as ``NoSuchKey`` or ``PreconditionFailed``."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def typed_errors(what: str) -> Iterator[None]:
    """Translate botocore's errors inside the block.

    Args:
        what: names the action in the message, such as ``write s3://bucket/key``.

    Raises:
        StorageUnavailableError: connection errors, throttling, 5xx, lost races (409, 412).
        StorageRefusedError: any other refusal: missing bucket or key, access denied.
    """
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _TRANSIENT_CODES or status >= _SERVER_ERROR:
            raise StorageUnavailableError(f"cannot {what}: S3 answered {code}") from error
        raise StorageRefusedError(
            f"cannot {what}: S3 answered {code}; check the bucket's name in settings and the role's permissions"
        ) from error
    except (ParamValidationError, NoCredentialsError) as error:
        raise StorageRefusedError(
            f"cannot {what}: {type(error).__name__}; check the bucket's name in settings and the credentials"
        ) from error
    except BotoCoreError as error:
        raise StorageUnavailableError(f"cannot {what}: {type(error).__name__}") from error


def put_json(s3: S3Client, bucket: str, key: str, document: object) -> None:
    """Write ``document`` as JSON to ``s3://bucket/key``, encrypted.

    Raises:
        StorageUnavailableError: a retry may work.
        StorageRefusedError: it will not.
    """
    with typed_errors(f"write s3://{bucket}/{key}"):
        s3.put_object(**_json_object(bucket, key, document))


def create_json(s3: S3Client, bucket: str, key: str, document: object) -> bool:
    """Write ``document`` as JSON to ``s3://bucket/key``, encrypted, unless something is there already.

    Returns:
        whether it was written; of several writers one gets True.

    Raises:
        StorageUnavailableError: a retry may work.
        StorageRefusedError: it will not.
    """
    with typed_errors(f"write s3://{bucket}/{key}"):
        try:
            s3.put_object(**_json_object(bucket, key, document), IfNoneMatch="*")
        except ClientError as error:
            if error_code(error) == "PreconditionFailed":
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
    """The JSON document at ``s3://bucket/key``, or None when there is none.

    Raises:
        StorageUnavailableError: a retry may work.
        StorageRefusedError: it will not.
    """
    with typed_errors(f"read s3://{bucket}/{key}"):
        try:
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error_code(error) == "NoSuchKey":
                return None
            raise
    return json.loads(body)
