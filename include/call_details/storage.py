"""The objects of the ingest bucket: listed, moved and read, each only as the version that was meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from include.call_details.keys import past_own
from include.clients.aws import error_code, unless
from include.clients.s3 import CONDITION_FAILED, MISSING, create_json, get_json, get_object, put_json, s3_errors
from include.errors import FileChangedError

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, ObjectVersionTypeDef


BLOCK_BYTES = 4 * 1024 * 1024
"""Bytes of one read: each is a request of its own, so that no connection waits while its reader is busy."""

LARGEST_COPY = 5 * 1024**3
"""S3 copies no more in one request; beyond, a copy is made of parts."""

_PART_BYTES = 512 * 1024 * 1024

_NOT_THIS_ONE = MISSING | CONDITION_FAILED


@dataclass(frozen=True)
class StoredFile:
    """One version of an object.

    Args:
        etag: as S3 sends it, in quotes.
        size: in bytes.
        version_id: None in a bucket that keeps no versions.
        latest: no newer one is under the key.
    """

    key: str
    etag: str
    size: int
    version_id: str | None = None
    latest: bool = field(default=True, compare=False)


class FileStore:
    """The files of one bucket."""

    def __init__(
        self, s3: S3Client, bucket: str, *, block_bytes: int = BLOCK_BYTES, largest_copy: int = LARGEST_COPY
    ) -> None:
        self.bucket = bucket
        self._s3 = s3
        self._block_bytes = block_bytes
        self._largest_copy = largest_copy

    def listed(self, prefix: str) -> Iterator[StoredFile]:
        """The objects whose keys begin with a prefix, but the project's own, in the order of these, page by page."""
        more: Any = {}
        while more is not None:
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, **more)
            more = None
            with s3_errors(f"list {self._uri(prefix)}"):
                for found in chain.from_iterable(map(_listed, pages)):
                    if after := past_own(found.key):
                        more = {"StartAfter": after}
                        break
                    yield found

    def beside(self, prefix: str, *, own: Sequence[str], limit: int) -> list[StoredFile]:
        """Objects that are neither under a folder (or empty) prefix nor under ``own`` ones.

        Of each folder beside them the first ``limit``, and no more in all.
        """
        found: list[StoredFile] = []
        # What is beside the prefix, is beside one of the folders on its way.
        steps = prefix.split("/")[:-1]
        waiting = ["/".join([*steps[:depth], ""]) for depth in range(len(steps))]
        for folder in waiting:
            page = self._page(folder, limit, Delimiter="/")
            found += _listed(page)
            for other in (each["Prefix"] for each in page.get("CommonPrefixes", ())):
                if len(found) < limit and not other.startswith((prefix, *own)) and other not in waiting:
                    found += _listed(self._page(other, limit - len(found)))
        return found[:limit]

    def _page(self, prefix: str, most: int, **more: Any) -> ListObjectsV2OutputTypeDef:
        with s3_errors(f"list {self._uri(prefix)}"):
            return self._s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=most, **more)

    def head(self, key: str) -> StoredFile | None:
        """The object under a key, or None."""
        with s3_errors(f"read {self._uri(key)}"), unless(MISSING):
            found = self._s3.head_object(Bucket=self.bucket, Key=key)
            return StoredFile(key, found["ETag"], found["ContentLength"], _version_id(found))
        return None

    def versions(self, key: str) -> list[StoredFile]:
        """The versions that were put under a key since it was last deleted, oldest first; none if it is deleted.

        S3 tells the order of a version and a deletion by the second only: a version of the same second is among them.
        """
        versions, deleted_at = self._history(key)
        if not any(version["IsLatest"] for version in versions):
            return []
        return [
            StoredFile(key, version["ETag"], version["Size"], _version_id(version), version["IsLatest"])
            for version in reversed(versions)
            if deleted_at is None or version["LastModified"] >= deleted_at
        ]

    def last_etag(self, key: str) -> str | None:
        """ETag of the newest version that was ever under a key and is still kept, also if it was deleted or moved."""
        versions, _ = self._history(key)
        return versions[0]["ETag"] if versions else None

    def deleted_at(self, key: str) -> datetime | None:
        """When the object under a key was deleted; None if there is one, or never was one that S3 still knows."""
        versions, deleted_at = self._history(key)
        return None if any(version["IsLatest"] for version in versions) else deleted_at

    def _history(self, key: str) -> tuple[list[ObjectVersionTypeDef], datetime | None]:
        """All versions that are kept of an object, newest first, and when it was last deleted."""
        versions: list[ObjectVersionTypeDef] = []
        deletions: list[datetime] = []
        pages = self._s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=key)
        with s3_errors(f"list versions of {self._uri(key)}"):
            for page in pages:
                of_page, markers = page.get("Versions", []), page.get("DeleteMarkers", [])
                versions += [version for version in of_page if version["Key"] == key]
                deletions += [marker["LastModified"] for marker in markers if marker["Key"] == key]
                # This very key comes before those that it is the beginning of.
                if any(each["Key"] != key for each in (*of_page, *markers)):
                    break
        return versions, max(deletions, default=None)

    def move(self, source: StoredFile, key: str) -> StoredFile:
        """Move a version, as :meth:`copy` does; a newer one under the source's key stays there.

        Repeatable: called again after it broke off, it does the rest.
        """
        if source.key == key:
            return source
        moved = self.copy(source, key)
        self.remove(source)
        return moved

    def copy(self, source: StoredFile, key: str) -> StoredFile:
        """Copy a version, with its metadata; raises FileChangedError if it is gone."""
        # By its version id, so that a file which was overwritten after it had been claimed is not lost.
        version: Any = {"VersionId": source.version_id} if source.version_id else {}
        origin: Any = {"Bucket": self.bucket, "Key": source.key, **version}
        with s3_errors(f"move {self._uri(source.key)} to {key}"):
            try:
                if source.size > self._largest_copy:
                    return self._copy_parts(source, origin, version, key)
                made = self._s3.copy_object(
                    Bucket=self.bucket,
                    Key=key,
                    CopySource=origin,
                    CopySourceIfMatch=source.etag,
                    ServerSideEncryption="AES256",
                )
            except ClientError as error:
                if error_code(error) in _NOT_THIS_ONE:
                    raise FileChangedError(
                        f"{self._uri(source.key)} was deleted or replaced before it could be moved to {key}"
                    ) from error
                raise
        return StoredFile(key, made["CopyObjectResult"]["ETag"], source.size, made.get("VersionId"))

    def remove(self, source: StoredFile) -> None:
        """Delete an object, unless another one is under its key by now."""
        with s3_errors(f"delete {self._uri(source.key)}"), unless(_NOT_THIS_ONE):
            self._s3.delete_object(Bucket=self.bucket, Key=source.key, IfMatch=source.etag)

    def blocks(self, key: str, etag: str, start: int, stop: int) -> Iterator[bytes]:
        """An object's bytes from ``start`` to ``stop`` (exclusive); raises FileChangedError if another one is there."""
        for first in range(start, stop, self._block_bytes):
            yield self._read(key, etag, first, min(first + self._block_bytes, stop) - 1)

    def whole(self, key: str, etag: str) -> tuple[int, Iterator[bytes]] | None:
        """A small object's size and bytes by one request, to be read at once; None if another one is there."""
        with s3_errors(f"read {self._uri(key)}"), unless(_NOT_THIS_ONE):
            found = self._s3.get_object(Bucket=self.bucket, Key=key, IfMatch=etag)
            return found["ContentLength"], self._chunks(key, found["Body"])
        return None

    def _chunks(self, key: str, body: StreamingBody) -> Iterator[bytes]:
        with s3_errors(f"read {self._uri(key)}"):
            yield from body.iter_chunks(self._block_bytes)

    def read_json(self, key: str) -> Any:
        """The JSON document under a key, or None."""
        return get_json(self._s3, self.bucket, key)

    def write_json(self, key: str, document: object) -> None:
        """Write a JSON document."""
        put_json(self._s3, self.bucket, key, document)

    def create_json(self, key: str, document: object) -> bool:
        """Write a JSON document, unless there is one; returns whether it was written."""
        return create_json(self._s3, self.bucket, key, document)

    def _read(self, key: str, etag: str, first: int, last: int) -> bytes:
        part = f"bytes={first}-{last}"
        found = get_object(self._s3, self.bucket, key, none_for=_NOT_THIS_ONE, IfMatch=etag, Range=part)
        if found is None:
            raise FileChangedError(
                f"{self._uri(key)} was deleted or replaced while it was being read: put it back as it was"
            )
        return found[0]

    def _copy_parts(self, source: StoredFile, origin: Any, version: Any, key: str) -> StoredFile:
        # A copy in parts is a new upload, which does not inherit the file's metadata.
        described = self._s3.head_object(Bucket=self.bucket, Key=source.key, **version)
        self._s3.copy(
            origin,
            self.bucket,
            key,
            ExtraArgs={
                "CopySourceIfMatch": source.etag,
                "Metadata": described["Metadata"],
                "ContentType": described["ContentType"],
                "ServerSideEncryption": "AES256",
            },
            Config=TransferConfig(multipart_threshold=self._largest_copy, multipart_chunksize=_PART_BYTES),
        )
        made = self._s3.head_object(Bucket=self.bucket, Key=key)
        return StoredFile(key, made["ETag"], made["ContentLength"], made.get("VersionId"))

    def _uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"


def _version_id(found: Mapping[str, Any]) -> str | None:
    # A bucket without versions calls its only one "null".
    version_id: str | None = found.get("VersionId")
    return None if version_id == "null" else version_id


def _listed(page: ListObjectsV2OutputTypeDef) -> list[StoredFile]:
    return [StoredFile(found["Key"], found["ETag"], found["Size"]) for found in page.get("Contents", ())]
