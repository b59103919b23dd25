"""The ingest bucket in memory: beside what :class:`FakeS3` does, it lists, copies, deletes, and reads ranges."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from botocore.response import StreamingBody

from tests.fakes.s3 import FakeS3, Version, s3_error

BUCKET = "ingest"


class FakeIngestBucket(FakeS3):
    """A versioned bucket whose listings have pages of two keys."""

    def __init__(self) -> None:
        super().__init__(BUCKET)

    def drop(self, key: str, body: bytes, **metadata: str) -> str:
        """Put a file, as a partner does; returns its ETag without quotes."""
        etag: str = self.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=metadata)["ETag"]
        return etag.strip('"')

    def present(self, prefix: str = "") -> list[str]:
        """Keys that hold an object and no delete marker."""
        return [key for key in self.keys(prefix) if self._latest(key) is not None]

    def body(self, key: str) -> bytes:
        """What lies under a key now."""
        found = self._latest(key)
        assert found is not None, key
        assert found.body is not None
        return found.body

    def get_object(self, **request: Any) -> dict[str, Any]:
        span = request.pop("Range", None)
        answer = super().get_object(**request)
        if span is not None:
            first, _, last = span.removeprefix("bytes=").partition("-")
            body = answer["Body"].read()[int(first) : int(last) + 1]
            answer |= {"Body": StreamingBody(io.BytesIO(body), len(body)), "ContentLength": len(body)}
        return answer

    def head_object(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            wanted = request.pop("VersionId", None)
            if wanted is None:
                return super().head_object(**request)
            self._enter("HeadObject", request)
            return self._describe(self._version(request["Key"], wanted))

    def copy_object(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            self._enter("CopyObject", request)
            origin = request["CopySource"]
            found = self._version(origin["Key"], origin.get("VersionId"))
            if request["CopySourceIfMatch"] != found.etag:
                raise s3_error("PreconditionFailed", "CopyObject")
            made = self.put_object(
                Bucket=BUCKET,
                Key=request["Key"],
                Body=found.body,
                Metadata=request.get("Metadata", found.arguments.get("Metadata", {})),
            )
            return {"CopyObjectResult": {"ETag": made["ETag"]}, "VersionId": made["VersionId"]}

    def copy(self, origin: dict[str, Any], bucket: str, key: str, *, ExtraArgs: Any, Config: Any) -> None:  # noqa: N803
        """As boto3's managed copy: in parts, with nothing of the source but what ``ExtraArgs`` say."""
        with self._lock:
            self.calls["copy"] += 1
            assert Config.multipart_threshold < self.head_object(**{"Bucket": bucket, **origin})["ContentLength"]
            self.copy_object(Bucket=bucket, Key=key, CopySource=origin, **ExtraArgs)

    def delete_object(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            self._enter("DeleteObject", request)
            kept = self._latest(request["Key"])
            if kept is None:
                raise s3_error("NoSuchKey", "DeleteObject")
            if request["IfMatch"] != kept.etag:
                raise s3_error("PreconditionFailed", "DeleteObject")
            self.delete(request["Key"])
            return {}

    def list_object_versions(self, **request: Any) -> dict[str, Any]:
        self._enter("ListObjectVersions", request)
        found = [
            {"Key": key, "ETag": version.etag}
            for key in self.keys(request["Prefix"])
            for version in reversed(self.objects[key])
            if version.body is not None
        ]
        return {"Versions": found} if found else {}

    def get_paginator(self, operation: str) -> FakeIngestBucket:
        assert operation == "list_objects_v2"
        return self

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        self._enter("ListObjectsV2", request)
        keys = self.present(request["Prefix"])
        for start in range(0, len(keys), 2):
            yield {"Contents": [{"Key": key} for key in keys[start : start + 2]]}
        if not keys:
            yield {}

    def _version(self, key: str, wanted: str | None) -> Version:
        found = self._latest(key)
        if wanted is not None:
            found = next((version for version in self.objects.get(key, []) if version.id == wanted), None)
        if found is None or found.body is None:
            raise s3_error("NoSuchKey", "CopyObject")
        return found
