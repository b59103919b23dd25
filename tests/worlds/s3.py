"""S3 in memory: versions, conditions, lists, copies, ranges, and the errors that botocore really raises."""

import hashlib
import io
import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import Any, Self

from botocore import xform_name
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.response import StreamingBody

STATUS = {
    "AccessDenied": 403,
    "InvalidArgument": 400,
    "ConditionalRequestConflict": 409,
    "InternalError": 500,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "PreconditionFailed": 412,
    "SlowDown": 503,
    "404": 404,
    "412": 412,
}


def s3_error(code: str, operation: str = "PutObject") -> ClientError:
    """The error that botocore raises when S3 answers ``code``."""
    return ClientError(
        {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": STATUS[code]}}, operation
    )


def raising(error: BaseException) -> Callable[..., Any]:
    """A hook around a call, or a stub, that only fails."""

    def fail(*arguments: object, **named: object) -> None:
        raise error

    return fail


def unreachable() -> EndpointConnectionError:
    """The error that botocore raises when there is no connection."""
    return EndpointConnectionError(endpoint_url="https://s3.invalid")


def at_once[T](work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that never waits, as none does that only calls :class:`FakeS3`; also within a loop."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


@dataclass(frozen=True)
class Version:
    """One version of an object; a delete marker has no body."""

    id: str
    body: bytes | None
    arguments: dict[str, Any] = field(default_factory=dict)
    stored_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body or b"").hexdigest()}"'


class FakeS3:
    """Quacks like a boto3 S3 client with one versioned bucket, and like a signed one: ``call`` never waits.

    ``before[operation]`` is called with the request before each such call, to fail it or to let another
    writer come first. ``calls`` counts operations.
    """

    ids = "v{}"
    """Of versions."""

    def __init__(self, bucket: str = "archive") -> None:
        self.bucket = bucket
        self.objects: dict[str, list[Version]] = {}
        self.before: dict[str, Callable[[dict[str, Any]], None]] = {}
        self.calls: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()

    def put_object(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            self._enter("PutObject", request)
            key, kept = request["Key"], self._latest(request["Key"])
            if request.get("IfNoneMatch") == "*" and kept is not None:
                raise s3_error("PreconditionFailed")
            self._check_match(kept, request, "PutObject")
            version = Version(self.ids.format(next(self._numbers)), bytes(request["Body"]), request)
            self.objects.setdefault(key, []).append(version)
            return {"ETag": version.etag, "VersionId": version.id}

    def get_object(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            self._enter("GetObject", request)
            wanted = request.get("VersionId")
            kept = self._version(request["Key"], wanted) if wanted else self._latest(request["Key"])
            if kept is None or kept.body is None:
                raise s3_error("NoSuchKey", "GetObject")
            if request.get("IfMatch", kept.etag) != kept.etag:
                raise s3_error("PreconditionFailed", "GetObject")
            return self._describe(kept) | {"Body": StreamingBody(io.BytesIO(kept.body), len(kept.body))}

    def head_object(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            self._enter("HeadObject", request)
            kept = self._latest(request["Key"])
            if kept is None:
                # A HEAD answer has no body, so botocore knows the status only.
                raise s3_error("404", "HeadObject")
            return self._describe(kept)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return getattr(self, xform_name(operation))(**request)

    def delete(self, key: str) -> None:
        """Leave a delete marker, as a delete in a versioned bucket does."""
        with self._lock:
            self.objects[key].append(Version(self.ids.format(next(self._numbers)), None))

    def bodies(self, key: str) -> list[bytes | None]:
        return [version.body for version in self.objects.get(key, [])]

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))

    def present(self, prefix: str = "") -> list[str]:
        """Keys that hold an object and no delete marker."""
        return [key for key in self.keys(prefix) if self._latest(key) is not None]

    def list_objects_v2(self, **request: Any) -> dict[str, Any]:
        """One page; ``Delimiter`` rolls up what lies deeper."""
        self._enter("ListObjectsV2", request)
        prefix, delimiter = request["Prefix"], request.get("Delimiter")
        found: list[dict[str, Any]] = []
        folders = set()
        for key in self.present(prefix):
            if key <= request.get("StartAfter", ""):
                continue
            name, cut, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
            if cut:
                folders.add(f"{prefix}{name}{cut}")
            else:
                found.append(self._listed(key))
        most = request.get("MaxKeys", 1000)
        return {"Contents": found[:most], "CommonPrefixes": [{"Prefix": folder} for folder in sorted(folders)]}

    def get_paginator(self, operation: str) -> Any:
        """All keys on one page."""
        assert operation == "list_objects_v2"
        return _Pages(lambda **request: iter([self.list_objects_v2(**request, MaxKeys=len(self.objects))]))

    def list_object_versions(self, **request: Any) -> dict[str, Any]:
        """All versions and delete markers on one page."""
        self._enter("ListObjectVersions", request)
        found = [each for each in self.list_versions(request["Prefix"]) if each["Key"] > request.get("KeyMarker", "")]
        return {
            "Versions": [each for each in found if "ETag" in each],
            "DeleteMarkers": [each for each in found if "ETag" not in each],
        }

    def delete_object(self, **request: Any) -> dict[str, Any]:
        """Without a condition, deleting what is not there is no error."""
        with self._lock:
            self._enter("DeleteObject", request)
            kept = self._latest(request["Key"])
            self._check_match(kept, request, "DeleteObject")
            if kept is not None:
                self.delete(request["Key"])
            return {}

    @staticmethod
    def _check_match(kept: Version | None, request: dict[str, Any], operation: str) -> None:
        if "IfMatch" in request:
            if kept is None:
                raise s3_error("NoSuchKey", operation)
            if request["IfMatch"] != kept.etag:
                raise s3_error("PreconditionFailed", operation)

    def _enter(self, operation: str, request: dict[str, Any]) -> None:
        self.calls[operation] += 1
        if operation in self.before:
            self.before[operation](request)
        if request["Bucket"] != self.bucket:
            raise s3_error("NoSuchBucket", operation)

    def _latest(self, key: str) -> Version | None:
        versions = self.objects.get(key, [])
        return versions[-1] if versions and versions[-1].body is not None else None

    def _listed(self, key: str) -> dict[str, Any]:
        """What lies under a key, as a list describes it."""
        found = self._latest(key)
        return {"Key": key, "ETag": found.etag, "Size": len(found.body), "LastModified": found.stored_at}

    def _time(self, version: Version) -> datetime:
        """What S3 says of when a version was stored."""
        return version.stored_at

    def list_versions(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Versions and delete markers as ``list_object_versions`` describes them, by key, the newest first."""
        for key in self.keys(prefix):
            for place, version in enumerate(reversed(self.objects[key])):
                found = {
                    "Key": key,
                    "VersionId": version.id,
                    "IsLatest": place == 0,
                    "LastModified": self._time(version),
                }
                yield found if version.body is None else {**found, "ETag": version.etag, "Size": len(version.body)}

    def _version_pages(self, **request: Any) -> Iterator[dict[str, Any]]:
        """Two lists, as boto3 gives them: the order of a version and a deletion is to be seen by their times alone."""
        self._enter("ListObjectVersions", request)
        with self._lock:
            found = list(self.list_versions(request["Prefix"]))
        for page in batched(found, 3):
            yield {
                "Versions": [version for version in page if "ETag" in version],
                "DeleteMarkers": [version for version in page if "ETag" not in version],
            }

    def _version(self, key: str, wanted: str | None) -> Version:
        found = self._latest(key)
        if wanted is not None:
            found = next((version for version in self.objects.get(key, []) if version.id == wanted), None)
        if found is None or found.body is None:
            given = wanted in (None, "null") or re.fullmatch(re.escape(self.ids).replace(r"\{\}", r"\d+"), wanted)
            raise s3_error("NoSuchKey" if given else "InvalidArgument", "CopyObject")
        return found

    @staticmethod
    def _describe(version: Version) -> dict[str, Any]:
        return {
            "ETag": version.etag,
            "VersionId": version.id,
            "LastModified": version.stored_at,
            "ContentLength": len(version.body or b""),
            "Metadata": version.arguments.get("Metadata", {}),
            "ContentType": version.arguments.get("ContentType", "binary/octet-stream"),
        } | {name: value for name, value in version.arguments.items() if name.startswith("ObjectLock")}


BUCKET = "ingest"
EPOCH = datetime(2026, 3, 8, tzinfo=UTC)


@dataclass(frozen=True)
class _Pages:
    """Quacks like a boto3 paginator."""

    paginate: Callable[..., Iterator[dict[str, Any]]]


class FakeIngestBucket(FakeS3):
    """A versioned bucket whose listings have pages of two keys, or of three versions.

    Args:
        changes_per_second: so many versions in a row are of the same time, which S3 tells by the second.
    """

    def __init__(self, *, changes_per_second: int = 1) -> None:
        super().__init__(BUCKET)
        self.changes_per_second = changes_per_second

    def drop(self, key: str, body: bytes, **metadata: str) -> str:
        """Put a file, as a partner does; returns its ETag without quotes."""
        etag: str = self.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=metadata)["ETag"]
        return etag.strip('"')

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

    def get_paginator(self, operation: str) -> _Pages:
        return _Pages({"list_objects_v2": self._list_objects, "list_object_versions": self._version_pages}[operation])

    def _list_objects(self, **request: Any) -> Iterator[dict[str, Any]]:
        self._enter("ListObjectsV2", request)
        keys = [key for key in self.present(request["Prefix"]) if key > request.get("StartAfter", "")]
        for start in range(0, len(keys), 2):
            # A page is a request.
            self.calls["pages"] += 1
            yield {"Contents": [self._listed(key) for key in keys[start : start + 2]]}
        if not keys:
            yield {}

    def _time(self, version: Version) -> datetime:
        return EPOCH + timedelta(seconds=int(version.id[1:]) // self.changes_per_second)


class VersionedBucket(FakeS3):
    """A bucket whose versions can be listed, in pages."""

    def get_paginator(self, operation: str) -> _Pages:
        assert operation == "list_object_versions"
        return _Pages(self._version_pages)

    def put_object_retention(self, **request: Any) -> None:
        self._enter("PutObjectRetention", request)
        lock = {f"ObjectLock{name}": value for name, value in request["Retention"].items()}
        self.objects[request["Key"]] = [
            replace(each, arguments=each.arguments | lock) if each.id == request["VersionId"] else each
            for each in self.objects[request["Key"]]
        ]


class WithoutVersions(VersionedBucket):
    """A bucket without versions: what is put replaces what was there, and no answer names a version."""

    def put_object(self, **request: Any) -> dict[str, Any]:
        answer = super().put_object(**request)
        self.objects[request["Key"]] = [replace(self.objects[request["Key"]][-1], id="null")]
        return {name: value for name, value in answer.items() if name != "VersionId"}

    def head_object(self, **request: Any) -> dict[str, Any]:
        return {name: value for name, value in super().head_object(**request).items() if name != "VersionId"}

    def get_object(self, **request: Any) -> dict[str, Any]:
        return {name: value for name, value in super().get_object(**request).items() if name != "VersionId"}
