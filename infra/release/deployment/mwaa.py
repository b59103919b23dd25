"""The environment on MWAA: its bucket, of which what differs is uploaded; why it failed, also when it does not say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from infra.release.bundle import ReleaseError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

INSTALL_STREAMS = "requirements_install"
"""What the names of the log streams begin with that hold the output of pip."""

_INSTALL_FAILED = '"ERROR:"'
"""How pip begins the line that says what it could not install."""


@dataclass(frozen=True, slots=True)
class Airflow:
    """One environment on MWAA."""

    mwaa: Any
    logs: Any
    name: str
    log_group: str

    def why_failed(self) -> str:
        """What the environment says of its last update, as a sentence; empty if it says nothing."""
        environment = self._describe()
        error = (environment or {}).get("LastUpdate", {}).get("Error", {})
        if not error:
            return ""
        return f"{error.get('ErrorCode', 'error')}: {error.get('ErrorMessage', 'no message')}"

    def check(self) -> None:
        """Make sure that it is there, runs, and has what it requires.

        MWAA only logs that an installation failed, and goes on without the packages; so its log is read, from the last
        update on.

        Raises:
            ReleaseError: it is not there, not available, or could not install its requirements.
        """
        environment = self._describe()
        if environment is None:
            raise ReleaseError(
                f"MWAA has no environment {self.name}, though its stack is done: see the stack's resources"
            )
        if environment["Status"] != "AVAILABLE":
            why = self.why_failed()
            raise ReleaseError(
                f"the environment {self.name} is not available ({environment['Status']}){why and ': '}{why}"
            )
        updated: datetime | None = environment.get("LastUpdate", {}).get("CreatedAt") or environment.get("CreatedAt")
        line = self._install_error(int(updated.timestamp() * 1000) if updated else 0)
        if line:
            raise ReleaseError(
                f"the environment {self.name} runs, but without all of its requirements:\n    {line}\n"
                f"See the log group {self.log_group}, streams {INSTALL_STREAMS}*; dags/ was left as it is. If "
                "requirements.txt is wrong, correct it (make preflight finds most mistakes) and deploy again. If it is "
                "right, and pip failed for once (a package index that did not answer), have MWAA install them anew, "
                "with the same versions, wait until it is AVAILABLE (10 to 30 minutes), and deploy again: as it is, a "
                "deployment finds nothing to update, and reads this same log.\n"
                f"    aws mwaa update-environment --name {self.name}\n"
                f"    aws mwaa get-environment --name {self.name} --query Environment.Status"
            )

    def _install_error(self, since: int) -> str:
        """First line in which pip failed since a time (milliseconds since 1970), or an empty text."""
        more: dict[str, str] = {}
        while True:
            try:
                page = self.logs.filter_log_events(
                    logGroupName=self.log_group,
                    logStreamNamePrefix=INSTALL_STREAMS,
                    filterPattern=_INSTALL_FAILED,
                    startTime=since,
                    **more,
                )
            except ClientError as error:
                if error.response["Error"]["Code"] == "ResourceNotFoundException":
                    return ""
                raise
            if page["events"]:
                return str(page["events"][0]["message"]).strip()
            if "nextToken" not in page:
                return ""
            more = {"nextToken": page["nextToken"]}

    def _describe(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.mwaa.get_environment(Name=self.name)["Environment"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return None
            raise
        return found


_DIGEST = "sha256"
"""Name of the object's metadata that holds its content's SHA-256, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One object after it was put, or found as it should be."""

    version: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Sync:
    """What became of a folder: keys that were uploaded and deleted, and how many were as they should be."""

    uploaded: tuple[str, ...]
    deleted: tuple[str, ...]
    unchanged: int


@dataclass(frozen=True, slots=True)
class BundleBucket:
    """One versioned bucket."""

    s3: S3Client
    name: str

    def put(self, key: str, path: Path) -> Upload:
        """Upload a file, unless the key's current version has its content; ReleaseError if there are no versions."""
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        current = self._current(key)
        if current is not None and current[0] == digest:
            return Upload(current[1], changed=False)
        answer = self.s3.put_object(
            Bucket=self.name, Key=key, Body=content, Metadata={_DIGEST: digest}, ServerSideEncryption="AES256"
        )
        version = answer.get("VersionId")
        if not version:
            raise ReleaseError(f"the bucket {self.name} keeps no versions: switch them on, as infra/mwaa.yaml does")
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
            self.s3.delete_object(Bucket=self.name, Key=key)
        return Sync(uploaded, deleted, len(wanted) - len(uploaded))

    def _keys(self, prefix: str) -> set[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return {item["Key"] for page in pages for item in page.get("Contents", [])}

    def _current(self, key: str) -> tuple[str, str] | None:
        """Digest and version id of a key's current version; None without one."""
        try:
            head = self.s3.head_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise
        return head["Metadata"].get(_DIGEST, ""), head.get("VersionId", "")
