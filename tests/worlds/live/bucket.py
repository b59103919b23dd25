"""A bucket with all its versions."""

from dataclasses import dataclass
from typing import Any

from local.stack.description import Stack


@dataclass(frozen=True)
class Version:
    """One version of an object, newest first where there are several."""

    key: str
    id: str
    etag: str


class Bucket:
    def __init__(self, stack: Stack, name: str) -> None:
        self.name = name
        self.s3 = stack.aws("s3")

    def listing(self, prefix: str = "") -> list[Version]:
        """All versions of all objects below ``prefix``, in the order of their keys, newest first."""
        pages = self.s3.get_paginator("list_object_versions").paginate(Bucket=self.name, Prefix=prefix)
        return [
            Version(item["Key"], item["VersionId"], item["ETag"]) for page in pages for item in page.get("Versions", [])
        ]

    def get(self, key: str, version: str | None = None) -> dict[str, Any]:
        """What S3 answers for an object, ``Body`` read."""
        asked = {"Bucket": self.name, "Key": key} | ({"VersionId": version} if version else {})
        answer: dict[str, Any] = self.s3.get_object(**asked)
        return answer | {"Body": answer["Body"].read()}
