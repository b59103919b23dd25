"""Evidence: was this client archived on that day, what exactly was the answer, and has it changed?"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import defaultdict
from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from airflow_ext.ids import DEX_TRIGGER_ARCHIVE
from airflow_ext.operations.reading import Reads, page
from airflow_ext.operations.routing import Cursor, answers, bodies, downloads, get, metadata, shown
from airflow_ext.operations.views.days import Day, DayManifest, counts, day_in, day_manifests, manifest, matching, today
from include.archive.export import evidence_files, zipped
from include.archive.keys import archive_key, manifest_key

router = APIRouter(prefix="/evidence")

DAYS = 365
_MOST_COMPARED = 256 * 1024
_DAY_OF = re.compile(r"_trigger_(\d{4})(\d{2})(\d{2})\.json\Z", re.ASCII)
_EMPTY = frozenset(
    hashlib.md5(body, usedforsecurity=False).hexdigest()
    for text in (b"[]", b"{}")
    for body in (text, text + b"\n", text + b"\r\n")
)
"""ETags of empty answers: of an object written in one piece and not encrypted by KMS, it is the MD5."""

Client = Annotated[int, Path(ge=-(2**63), lt=2**63)]
Version = Annotated[str, Query(min_length=1, max_length=1024)]

_METADATA = [metadata(DEX_TRIGGER_ARCHIVE)]
_GUARDS = bodies(DEX_TRIGGER_ARCHIVE, "operations.evidence")


@downloads(router.get("/clients/{client}/days/{day}/download", dependencies=_GUARDS))
def download_body(reads: Reads, client: Client, day: Day, version: Version) -> tuple[bytes, str]:
    """A version's bytes as they came."""
    return _get(reads, client, day, version)["Body"].read(), archive_key(client, day).rpartition("/")[2]


@downloads(router.get("/clients/{client}/days/{day}/proof", dependencies=_GUARDS))
def download_proof(reads: Reads, client: Client, day: Day) -> tuple[bytes, str]:
    """The zip that proves the day's answer (spec: archive, Proof); it takes a call for each entry of the ledger."""
    files = evidence_files(reads.unlimited("s3"), reads.settings.archive_bucket, client, day, day)
    return zipped(files), f"evidence_{client}_{day}.zip"


@answers(router.get("/clients", dependencies=_METADATA))
def clients(reads: Reads, q: str = "", cursor: Cursor = 0) -> dict[str, Any]:
    """Clients of the newest day by id or part of the name."""
    wanted, to = q.strip().casefold(), today(reads)
    newest = _newest(reads, day_manifests(reads, to - timedelta(days=DAYS), to))
    lines = matching(newest.lines(), wanted) if newest else []
    # An id that is meant exactly comes first.
    found = page(sorted(lines, key=lambda line: str(line.client_id) != wanted), cursor)
    rows = [{"client_id": line.client_id, "client_name": line.client_name} for line in found["rows"]]
    return {**found, "rows": rows}


def _newest(reads: Reads, days: dict[date, str]) -> DayManifest | None:
    return manifest(reads, max(days), days[max(days)]) if days else None


@answers(router.get("/clients/{client}", dependencies=_METADATA))
def days_of_client(reads: Reads, client: Client, to: Day | None = None) -> dict[str, Any]:
    """A client's 365 days up to ``to``: what became of each."""
    to = to or today(reads)
    first = to - timedelta(days=DAYS - 1)
    kept = _versions(reads, f"trigger/{client}/", after=archive_key(client, first - timedelta(days=1)))
    found: dict[date, dict[str, Any]] = {}
    for key, versions in kept.items():
        day = day_in(_DAY_OF.search(key))
        latest = next((each for each in versions if each["IsLatest"]), None)
        if day and latest and "Size" in latest:
            empty = latest["Size"] <= 4 and latest["ETag"].strip('"') in _EMPTY
            count = sum("Size" in each for each in versions)
            state = "empty" if empty else "changed" if count > 1 else "archived"
            found[day] = {"state": state, "versions": count, "bytes": latest["Size"]}
    name = None
    manifests: dict[date, str] = {}
    with reads.section("why the client has nothing on some days"):
        manifests = day_manifests(reads, first, to)
        gaps = [day for day in sorted(manifests, reverse=True) if day not in found]
        reasons = reads.each(lambda day: _gap(reads, client, day, manifests[day]), gaps, "older days")
        found |= {day: {"state": reason or "unknown"} for day, reason in zip(gaps, reasons, strict=True)}
    with reads.section("the client's name"):
        newest = _newest(reads, manifests)
        line = newest and newest.line_of(client)
        name = line and line.client_name
    days = [first + timedelta(days=number) for number in range(DAYS)]
    return {
        "client_id": client,
        "client_name": name,
        "days": [{"day": day, **found.get(day, {"state": "missing"})} for day in days],
    }


def _gap(reads: Reads, client: int, day: date, etag: str) -> str:
    """Why a client has no answer of a day that has a manifest."""
    if not counts(reads, day, etag)["failed_archives"]:
        return "not selected"
    failed = reads.object(
        "failed",
        manifest_key(day),
        etag,
        lambda: frozenset(each.client_id for each in manifest(reads, day, etag).head.errors),
    )
    return "failed" if client in failed else "not selected"


def _versions(reads: Reads, prefix: str, *, after: str = "") -> dict[str, list[dict[str, Any]]]:
    """Versions and delete markers by key, the newest first."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    more = {"KeyMarker": after} if after else {}
    while True:
        got = reads.aws("s3").list_object_versions(Bucket=reads.settings.archive_bucket, Prefix=prefix, **more)
        for each in [*got.get("Versions", []), *got.get("DeleteMarkers", [])]:
            found[each["Key"]].append(each)
        if not got.get("IsTruncated"):
            break
        more = {"KeyMarker": got["NextKeyMarker"], "VersionIdMarker": got["NextVersionIdMarker"]}
    for versions in found.values():
        versions.sort(key=lambda each: (each["IsLatest"], each["LastModified"]), reverse=True)
    return found


@answers(router.get("/clients/{client}/days/{day}", dependencies=_METADATA))
def one_answer(reads: Reads, client: Client, day: Day) -> dict[str, Any]:
    """The answer: its versions, the sha256 recomputed now, and the run that stored it. Not its body."""
    key = archive_key(client, day)
    versions = _versions(reads, key).get(key, [])
    rows = reads.each(lambda each: _version(reads, key, each), versions[:20], "older versions")
    line, reason = None, None
    with reads.section("the manifest's line"):
        days = day_manifests(reads, day, day)
        if day in days:
            document = manifest(reads, day, days[day])
            line = document.line_of(client)
            reason = next((each.error for each in document.head.errors if each.client_id == client), None)
    return {
        "client_id": client,
        "day": day,
        "bucket": reads.settings.archive_bucket,
        "key": key,
        "versions": [row for row in rows if row],
        "outcome": line and line.outcome,
        "client_name": line and line.client_name,
        "reason": reason,
        "run_id": line and line.run_id,
    }


def _version(reads: Reads, key: str, version: dict[str, Any]) -> dict[str, Any]:
    row = {
        "version_id": version["VersionId"],
        "latest": version["IsLatest"],
        "stored_at": version["LastModified"].isoformat(),
    }
    if "Size" not in version:
        return {**row, "deleted": True}
    found = reads.aws("s3").get_object(Bucket=reads.settings.archive_bucket, Key=key, VersionId=version["VersionId"])
    digest = hashlib.sha256()
    for block in found["Body"].iter_chunks(1024 * 1024):
        digest.update(block)
    noted = found["Metadata"].get("sha256")
    return {
        **row,
        "bytes": found["ContentLength"],
        "sha256": digest.hexdigest(),
        "as_stored": None if noted is None else noted == digest.hexdigest(),
        "archived_at": found["Metadata"].get("archived_at"),
    }


def _get(reads: Reads, client: int, day: date, version: str) -> Any:
    bucket, key = reads.settings.archive_bucket, archive_key(client, day)
    return get(reads, f"version {version} of {key}", Bucket=bucket, Key=key, VersionId=version)


@answers(router.get("/clients/{client}/days/{day}/body", dependencies=_GUARDS), keep=False)
def body(reads: Reads, client: Client, day: Day, version: Version) -> dict[str, Any]:
    """A version's body as text, up to 2 MB."""
    return shown(_get(reads, client, day, version))


@answers(router.get("/clients/{client}/days/{day}/difference", dependencies=_GUARDS), keep=False)
def difference(reads: Reads, client: Client, day: Day, version: Version, other: Version) -> dict[str, Any]:
    """How version ``other`` became ``version``, line by line of the indented JSON."""
    texts = []
    for each in (other, version):
        found = _get(reads, client, day, each)
        if found["ContentLength"] > _MOST_COMPARED:
            return {"lines": [], "too_long": True}
        texts.append(shown(found)["pretty"].splitlines())
    lines = difflib.unified_diff(texts[0], texts[1], "before", "after", lineterm="")
    return {"lines": [line[:2000] for line in lines][:5000], "too_long": False}
