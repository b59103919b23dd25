"""Batches that could not be delivered: the body in S3, and a message that points to it in the queue."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from include.clients.aws import aws_errors
from include.clients.s3 import error_code, typed_errors
from include.errors import InvalidInputError
from include.ingest.claim import FileVersion
from include.ingest.keys import dead_letter_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True)
class DeadLetter:
    """What is known of an undelivered batch, but for its records.

    Args:
        file: the file version it is of.
        batch: its number, from 0.
        first_record: number of its first record, from 1.
        last_record: number of its last record.
        idempotency_key: what it was posted under, and will be again.
        attempts: how often it was sent.
        last_status: of the last answer; None if there was none.
        error: why it was not accepted, on a short line.
        first_failed_at: when it first failed, ISO 8601.
    """

    file: FileVersion
    batch: int
    first_record: int
    last_record: int
    idempotency_key: str
    attempts: int
    last_status: int | None
    error: str | None
    first_failed_at: str | None


@dataclass(frozen=True)
class BodyPointer:
    """Where the body of an undelivered batch lies.

    Args:
        bucket: of the body.
        key: of the body; two versions of a file share it.
        version_id: tells them apart; None if the bucket keeps no versions.
        sha256: of the body, so that a replay never posts another one under the batch's idempotency key.
    """

    bucket: str
    key: str
    version_id: str | None
    sha256: str


class DeadLetters:
    """The dead letters of one bucket and queue.

    Args:
        s3: a boto3 client; safe to share between threads, as is the next.
        sqs: a boto3 client.
        bucket: where bodies are kept.
        queue_url: where messages are sent.
    """

    def __init__(self, s3: S3Client, sqs: SQSClient, bucket: str, queue_url: str) -> None:
        self._s3 = s3
        self._sqs = sqs
        self._bucket = bucket
        self._queue_url = queue_url

    def keep(self, letter: DeadLetter, body: bytes) -> BodyPointer:
        """Keep the body, then tell of it. Done again, it leaves a second message, which a replay does not mind.

        Args:
            letter: what is known of the batch.
            body: the request's body.

        Raises:
            StorageUnavailableError: S3 failed; a retry may work.
            StorageRefusedError: S3 refused.
            AwsUnavailableError: SQS failed; a retry may work.
            AwsRefusedError: SQS refused.
        """
        key = dead_letter_key(letter.file, letter.batch)
        with typed_errors(f"write s3://{self._bucket}/{key}"):
            written = self._s3.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=body,
                ContentType="application/json",
                ServerSideEncryption="AES256",
            )
        pointer = BodyPointer(self._bucket, key, written.get("VersionId"), hashlib.sha256(body).hexdigest())
        with aws_errors("SQS", f"send to {self._queue_url}"):
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=to_message(letter, pointer))
        return pointer

    def body(self, pointer: BodyPointer) -> bytes:
        """The body that a message points to.

        Raises:
            InvalidInputError: it is gone, or is not the one that was kept.
            StorageUnavailableError: S3 failed; a retry may work.
            StorageRefusedError: S3 refused.
        """
        place = f"s3://{pointer.bucket}/{pointer.key}"
        version: Any = {"VersionId": pointer.version_id} if pointer.version_id else {}
        with typed_errors(f"read {place}"):
            try:
                body = self._s3.get_object(Bucket=pointer.bucket, Key=pointer.key, **version)["Body"].read()
            except ClientError as error:
                if error_code(error) in ("NoSuchKey", "NoSuchVersion"):
                    raise InvalidInputError(f"{place} is gone") from error
                raise
        if hashlib.sha256(body).hexdigest() != pointer.sha256:
            raise InvalidInputError(f"{place} is not what was kept there for this batch")
        return body


def to_message(letter: DeadLetter, pointer: BodyPointer) -> str:
    """The queue's message, JSON."""
    # ASCII: a file's key may hold characters that SQS does not take.
    return json.dumps({"body": asdict(pointer), **asdict(letter)})


def from_message(text: str) -> tuple[DeadLetter, BodyPointer]:
    """Read a message of the queue.

    Raises:
        InvalidInputError: it is not one of ours.
    """
    try:
        found = json.loads(text)
        pointer = BodyPointer(**found.pop("body"))
        letter = DeadLetter(**{**found, "file": FileVersion(**found["file"])})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        # Not chained: the decoder's error holds the whole message.
        raise InvalidInputError(f"a message that is no dead letter ({type(error).__name__})") from None
    return letter, pointer
