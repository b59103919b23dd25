"""The archive itself: each response byte for byte, written once, never overwritten by less (spec: archive, Store)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from include.archive.keys import archive_key
from include.archive.models import ClientOutcome, Response, Result, read_response
from include.clients.aws import error_code, unless
from include.clients.s3 import CONDITION_FAILED, MISSING, s3_errors
from include.errors import EmptyAnswerError, InvalidAnswerError, StorageUnavailableError

if TYPE_CHECKING:
    from include.clients.signed import SignedClient

_EMPTY_BODY_MAX_BYTES = 1024
"""Above this size an archive is not looked at to learn that it is not ``[]`` or ``{}``."""


def lock_until(mode: str, days: int, now: datetime) -> dict[str, Any]:
    """Arguments of a write that keep the object from being deleted (S3 Object Lock; spec: archive, Proof).

    The mode is ``NONE``, ``GOVERNANCE`` or ``COMPLIANCE``; ``now`` is aware.
    """
    if mode == "NONE":
        return {}
    return {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": now + timedelta(days=days)}


class ArchiveStore:
    """Writes responses to one bucket by conditional requests, so that any call can be repeated or raced.

    The usual case, a client's first response of a day, costs one request. The client of S3 is opened by the caller.
    """

    def __init__(self, s3: SignedClient, bucket: str, lock: dict[str, Any] | None = None) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._lock = lock or {}

    async def save(self, client_id: int, day: date, response: Response, *, force: bool) -> ClientOutcome:
        """Archive a client's response of a trigger date, unless it is there already.

        Raises:
            EmptyAnswerError: an empty response would replace a non-empty archive, and ``force`` is false.
            StorageUnavailableError: S3 failed or another writer came first; a retry settles it.
        """
        key = archive_key(client_id, day)
        with s3_errors(f"archive s3://{self._bucket}/{key}"):
            with unless(CONDITION_FAILED):
                written = await self._put(key, client_id, day, response, IfNoneMatch="*")
                return _outcome(client_id, Result.ARCHIVED, key, response, written.get("VersionId"))
            try:
                return await self._compare(key, client_id, day, response, force=force)
            except ClientError as error:
                if error_code(error) in MISSING:
                    raise StorageUnavailableError(f"{key} was deleted while it was compared") from error
                raise

    async def _compare(self, key: str, client_id: int, day: date, response: Response, *, force: bool) -> ClientOutcome:
        kept = await self._s3.call("HeadObject", Bucket=self._bucket, Key=key)
        if await self._same(kept, key, response):
            return _outcome(client_id, Result.UNCHANGED, key, response, kept.get("VersionId"))
        if response.empty and not force and not await self._is_empty(kept, key):
            raise EmptyAnswerError(
                f"the answer is empty, but {key} holds a non-empty one, which was left as it is; "
                "run again with force if the empty answer is right"
            )
        written = await self._put(key, client_id, day, response, IfMatch=kept["ETag"])
        return _outcome(client_id, Result.UPDATED, key, response, written.get("VersionId"))

    async def _put(self, key: str, client_id: int, day: date, response: Response, **condition: str) -> dict[str, Any]:
        return await self._s3.call(
            "PutObject",
            Bucket=self._bucket,
            Key=key,
            Body=response.body,
            ContentType="application/json",
            ServerSideEncryption="AES256",
            Metadata={
                "client_id": str(client_id),
                "trigger_date": day.isoformat(),
                "archived_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "sha256": response.sha256,
                # Only a 200 is ever archived.
                "source_status": "200",
            },
            **condition,
            **self._lock,
        )

    async def _same(self, kept: dict[str, Any], key: str, response: Response) -> bool:
        if kept["ContentLength"] != len(response.body):
            return False
        digest = kept["Metadata"].get("sha256")
        # Archives made before this pipeline carry no digest.
        return await self._body(kept, key) == response.body if digest is None else digest == response.sha256

    async def _is_empty(self, kept: dict[str, Any], key: str) -> bool:
        if kept["ContentLength"] > _EMPTY_BODY_MAX_BYTES:
            return False
        body = await self._body(kept, key)
        try:
            return read_response(body).empty
        except InvalidAnswerError:
            # An archive made before this pipeline may have no byte.
            return not body.strip()

    async def _body(self, kept: dict[str, Any], key: str) -> bytes:
        # If-Match: the bytes compared are those of the object that the conditional write will name.
        found = await self._s3.call("GetObject", Bucket=self._bucket, Key=key, IfMatch=kept["ETag"])
        body: bytes = found["Body"].read()
        return body


def _outcome(client_id: int, result: Result, key: str, response: Response, version_id: str | None) -> ClientOutcome:
    return ClientOutcome(client_id, result, key, response.sha256, len(response.body), version_id)
