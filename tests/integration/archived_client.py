"""One client's place in the archive, as the tests of the store use it."""

import asyncio
import itertools
from collections.abc import Callable
from datetime import date
from typing import Any

from include.archive.keys import archive_key
from include.archive.models import ClientOutcome, read_response
from include.archive.store import ArchiveStore
from include.clients.signed import SignedClient
from tests.integration.conftest import Aws

DAY = date(2026, 3, 8)
CLIENT_IDS = itertools.count(1)


class ArchivedClient:
    """One client's place in the archive: what a test puts there and finds there."""

    def __init__(self, aws: Aws, bucket: str) -> None:
        self.s3 = aws.s3
        self.bucket = bucket
        self.client_id = next(CLIENT_IDS)
        self.key = archive_key(self.client_id, DAY)
        self._find_credentials = aws.session().get_credentials

    def archive(
        self,
        body: bytes,
        *,
        force: bool = False,
        lock: dict[str, Any] | None = None,
        through: Callable[[SignedClient], Any] = lambda signed: signed,
    ) -> ClientOutcome:
        """Archive ``body``; ``through`` may put something before the S3 client."""

        async def save() -> ClientOutcome:
            async with SignedClient(self.s3, self._find_credentials) as signed:
                store = ArchiveStore(through(signed), self.bucket, lock)
                return await store.save(self.client_id, DAY, read_response(body), force=force)

        return asyncio.run(save())

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
