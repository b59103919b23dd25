"""The bucket that MWAA reads: uploads what differs, by content, and nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from infra.release.bundle import ReleaseError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_DIGEST = "sha256"
"""Name of the object's metadata that holds its content's SHA-256, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One object after it was put, or found as it should be.

    Args:
        version: its version id.
        changed: whether it was put now.
    """

    version: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Sync:
    """What became of a folder: keys that were uploaded and deleted, and how many were as they should be."""

    uploaded: tuple[str, ...]
    deleted: tuple[str, ...]
    unchanged: int


@dataclass(frozen=True, slots=True)
class Shelf:
    """One versioned bucket.

    Args:
        s3: client of S3.
        bucket: the bucket's name.
    """

    s3: S3Client
    bucket: str

    def put(self, key: str, path: Path) -> Upload:
        """Upload a file under a key, unless the current version has its content already.

        Raises:
            ReleaseError: the bucket keeps no versions.
        """
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        current = self._current(key)
        if current is not None and current[0] == digest:
            return Upload(current[1], changed=False)
        answer = self.s3.put_object(
            Bucket=self.bucket, Key=key, Body=content, Metadata={_DIGEST: digest}, ServerSideEncryption="AES256"
        )
        version = answer.get("VersionId")
        if not version:
            raise ReleaseError(f"the bucket {self.bucket} keeps no versions: switch them on, as infra/mwaa.yaml does")
        return Upload(version, changed=True)

    def sync(self, folder: Path, prefix: str) -> Sync:
        """Make the objects under a prefix (`dags/`) those of a folder: upload what differs, then delete the rest.

        Raises:
            ReleaseError: the folder is empty; it is not emptied there.
        """
        wanted = {prefix + path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        if not wanted:
            raise ReleaseError(f"{folder} has no file: build it (make bundle)")
        uploaded = tuple(key for key, path in sorted(wanted.items()) if self.put(key, path).changed)
        deleted = tuple(sorted(self._keys(prefix) - set(wanted)))
        for key in deleted:
            self.s3.delete_object(Bucket=self.bucket, Key=key)
        return Sync(uploaded, deleted, len(wanted) - len(uploaded))

    def _keys(self, prefix: str) -> set[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return {item["Key"] for page in pages for item in page.get("Contents", [])}

    def _current(self, key: str) -> tuple[str, str] | None:
        """Digest and version id of a key's current version; None without one."""
        try:
            head = self.s3.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise
        return head["Metadata"].get(_DIGEST, ""), head.get("VersionId", "")
