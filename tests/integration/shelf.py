"""One client's place in the archive, as the tests of the store use it."""

from __future__ import annotations

import itertools
from datetime import date
from typing import TYPE_CHECKING, Any

from include.archive.keys import archive_key
from include.archive.models import read_response
from include.archive.store import ArchiveStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.archive.models import ClientOutcome

DAY = date(2026, 3, 8)
CLIENT_IDS = itertools.count(1)


class Shelf:
    """One client's place in the archive: what a test puts there and finds there."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.client_id = next(CLIENT_IDS)
        self.key = archive_key(self.client_id, DAY)

    def archive(self, body: bytes, *, force: bool = False, through: Any = None) -> ClientOutcome:
        """Archive ``body``; ``through`` stands in for the S3 client."""
        store = ArchiveStore(through or self.s3, self.bucket)
        return store.save(self.client_id, DAY, read_response(body), force=force)

    def put_legacy(self, body: bytes) -> None:
        """An archive as it was made before this pipeline: no metadata."""
        self.s3.put_object(Bucket=self.bucket, Key=self.key, Body=body)

    def bodies(self) -> list[bytes]:
        """All versions, newest first."""
        versions = self.s3.list_object_versions(Bucket=self.bucket, Prefix=self.key).get("Versions", [])
        return [
            self.s3.get_object(Bucket=self.bucket, Key=self.key, VersionId=version["VersionId"])["Body"].read()
            for version in versions
        ]
