"""The archive: what became of a day's clients, and one client's answer."""

from __future__ import annotations

import hashlib
from datetime import date
from typing import Any

from include.archive.keys import archive_key, manifest_key
from include.clients.s3 import get_json
from include.text import UNREADABLE
from ops.environment import Environment, aws_errors
from ops.report import OpsError, Report
from ops.runs import refuse_paused

AS_STORED, CHANGED = "as stored", "CHANGED"
DELETED = "DELETED: a delete marker hides what is below"
UNKNOWN = "no digest was noted: archived before this pipeline"


def day(environment: Environment, wanted: date) -> Report:
    """What the day's manifest says of each client."""
    bucket = environment.output("ArchiveBucketName")
    key = manifest_key(wanted)
    columns = {"client": "client", "name": "name", "outcome": "outcome", "bytes": "bytes", "error": "reason"}
    try:
        manifest: dict[str, Any] | None = get_json(environment.aws("s3"), bucket, key)
        if manifest is not None:
            return _day(wanted, manifest, columns)
    except UNREADABLE:
        raise OpsError(
            f"s3://{bucket}/{key} is not a day's manifest as runs write them: see 'ops evidence verify'"
        ) from None
    notes = [
        f"No run has ended for {wanted}: there is no s3://{bucket}/{key}.",
        "To archive it: docs/RUNBOOK.md, A range of days.",
    ]
    return Report(f"{wanted}: no manifest", columns, (), notes)


def _day(wanted: date, manifest: dict[str, Any], columns: dict[str, str]) -> Report:
    errors = {item["client_id"]: item for item in manifest["errors"]}
    rows = [
        {
            "client": item["client_id"],
            "name": item.get("client_name") or errors.get(item["client_id"], {}).get("client_name"),
            "outcome": item["outcome"],
            "bytes": item["bytes"],
            "error": errors.get(item["client_id"], {}).get("error"),
            **item,
        }
        for item in manifest["clients"]
    ]
    # Those that failed first: they are what somebody looks for.
    rows.sort(key=lambda row: (not row["error"], row["client"]))
    title = (
        f"{wanted}: {manifest['successful_archives']:,} of {manifest['total_clients']:,} clients archived, "
        f"{manifest['failed_archives']:,} failed (run {manifest['run_id']})"
    )
    notes = ["To repeat the failed ones: docs/RUNBOOK.md, A day."] if errors else []
    return Report(title, columns, rows, notes)


def answer(environment: Environment, wanted: date, client_id: int) -> Report:
    """One client's archived answer: its versions, and whether each is still what was stored."""
    bucket, key = environment.output("ArchiveBucketName"), archive_key(client_id, wanted)
    s3 = environment.aws("s3")
    with aws_errors("S3"):
        pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
        versions = [
            version
            for page in pages
            for version in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
            if version["Key"] == key
        ]
        versions.sort(key=lambda version: (version["IsLatest"], version["LastModified"]), reverse=True)
        rows = [_version(s3, bucket, key, version) for version in versions]
    columns = {
        "latest": "",
        "archived_at": "archived",
        "bytes": "bytes",
        "sha256": "sha256 (recomputed)",
        "proof": "proof",
        "version_id": "version",
    }
    wrong = [row for row in rows if row["proof"] == CHANGED or (row["latest"] and row["proof"] == DELETED)]
    notes = [f"s3://{bucket}/{key}"]
    if not rows:
        notes.append(f"Client {client_id} has no archived answer for {wanted}.")
    return Report(f"client {client_id}, {wanted}", columns, rows, notes, failed=bool(wrong) or not rows)


def _version(s3: Any, bucket: str, key: str, version: dict[str, Any]) -> dict[str, Any]:
    row = {"latest": "latest" if version["IsLatest"] else "", "version_id": version["VersionId"]}
    if "ETag" not in version:
        return {**row, "archived_at": version["LastModified"].isoformat(), "proof": DELETED}
    found = s3.get_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])
    digest, noted = hashlib.file_digest(found["Body"], "sha256").hexdigest(), found["Metadata"].get("sha256")
    return {
        **row,
        "archived_at": found["Metadata"].get("archived_at"),
        "bytes": found["ContentLength"],
        "sha256": digest,
        "proof": UNKNOWN if noted is None else AS_STORED if noted == digest else CHANGED,
    }


def backfill(
    environment: Environment, first: date, last: date, clients: list[int] | None, *, again: bool, dry_run: bool
) -> Report:
    """Have each day of a range archived, both included, or show which days that would be.

    Only of the clients, if any are named; ``again`` also the days whose run has succeeded.

    Raises:
        OpsError: the range is empty, the DAG is paused, or Airflow refuses it.
    """
    if last < first:
        raise OpsError(f"{last} is before {first}")
    if not dry_run:
        refuse_paused(environment, "dex_trigger_archive")
    body = {
        "dag_id": "dex_trigger_archive",
        "from_date": f"{first}T00:00:00Z",
        "to_date": f"{last}T00:00:00Z",
        "reprocess_behavior": "completed" if again else "failed",
        "max_active_runs": 1,
        "run_backwards": False,
        "dag_run_conf": {"client_ids": clients} if clients else {},
    }
    found = environment.airflow("POST", f"/backfills{'/dry_run' if dry_run else ''}", body=body)
    if dry_run:
        rows = [{"day": item["logical_date"]} for item in found["backfills"]]
        return Report("a backfill would start these runs", {"day": "logical date (UTC)"}, rows)
    return Report("backfill started", {"id": "id", "from_date": "first", "to_date": "last"}, [found])
