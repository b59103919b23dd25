"""A zip that proves one client's answers to somebody without any access (spec: archive, Proof)."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from include.archive.keys import archive_key, ledger_key
from include.archive.ledger import Entry, Ledger, sha256
from ops.environment import Environment, aws_errors
from ops.errors import OpsError
from ops.report import Report

_SUMS = "sha256sums"
_PAGE = "README.txt"
_TEXT = """\
What this proves
================

answers/      what the DEX API answered, byte for byte, in every version that the archive has
metadata/     what the archive noted of each version when it was stored
manifests/    the manifests of the runs that stored them: a line for each client
ledger/       the ledger from the first of those runs to the newest

1. Nothing in this zip was changed since it was made:

     sha256sum --check sha256sums

2. Each answer is the one that its run stored. Compare its digest with the line of the manifest:

     sha256sum answers/*
     jq -c '.clients[] | select(.client_id == {client}) | [.key, .version_id, .sha256]' manifests/*

3. Each manifest is the one that the ledger has:

     sha256sum manifests/*
     jq -r '[.sha256, .manifest] | join("  ")' ledger/*

4. Each entry of the ledger holds the digest of the entry before. These two columns must be equal, one line apart:

     sha256sum ledger/*
     jq -r .previous ledger/*

What it cannot show: that nobody rewrote the whole ledger before this zip was made. Compare the digest of the newest
entry with one that was noted elsewhere, or with another zip.
"""


def export(environment: Environment, client: int, first: date, last: date, target: Path) -> Report:
    """Write the zip; the same bytes for the same evidence.

    Raises:
        OpsError: the ledger knows no answer of this client in the range.
    """
    bucket, s3 = environment.output("ArchiveBucketName"), environment.aws("s3")
    with aws_errors("S3"):
        files = dict(_files(s3, bucket, client, first, last))
    if not any(name.startswith("answers/") for name in files):
        raise OpsError(f"client {client} has no answer in the ledger from {first} to {last}")
    files[_PAGE] = _TEXT.replace("{client}", str(client)).encode()
    files[_SUMS] = "".join(f"{sha256(files[name])}  {name}\n" for name in sorted(files)).encode()
    target.write_bytes(_zipped(files))
    rows = [{"file": name, "bytes": len(files[name])} for name in sorted(files)]
    notes = [f"{target}: check it with 'ops evidence export --verify {target}', or as its {_PAGE} says"]
    return Report(f"evidence of client {client}, {first} to {last}", {"file": "file", "bytes": "bytes"}, rows, notes)


def check(source: Path) -> Report:
    """Check a zip that :func:`export` wrote, without any access."""
    try:
        with zipfile.ZipFile(source) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise OpsError(f"{source} cannot be read: {error}") from None
    rows = [{"file": name, "fault": fault} for name, fault in _faults(files)]
    title = f"{source}: {len(files)} files; " + ("everything is proven" if not rows else f"{len(rows)} faults")
    return Report(title, {"file": "file", "fault": "what is wrong"}, rows, failed=bool(rows))


def _files(s3: Any, bucket: str, client: int, first: date, last: date) -> Iterator[tuple[str, bytes]]:
    keys = {archive_key(client, first + timedelta(days=number)) for number in range((last - first).days + 1)}
    newest = Ledger(s3, bucket).last()
    began = None
    for number in range(1, newest + 1):
        body = s3.get_object(Bucket=bucket, Key=ledger_key(number))["Body"].read()
        entry = Entry.from_bytes(body)
        lines: list[dict[str, Any]] = []
        if entry.trigger_date is None or first.isoformat() <= entry.trigger_date <= last.isoformat():
            which = {"VersionId": entry.version_id} if entry.version_id else {}
            manifest = s3.get_object(Bucket=bucket, Key=entry.manifest, **which)["Body"].read()
            lines = [line for line in json.loads(manifest)["clients"] if line["key"] in keys]
            if lines:
                began = began or number
                yield f"manifests/{number:08d}.json", manifest
        if began is not None:
            yield f"ledger/{number:08d}.json", body
        for line in lines:
            yield from _answer(s3, bucket, line)


def _answer(s3: Any, bucket: str, line: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    which = {"VersionId": line["version_id"]} if line["version_id"] else {}
    found = s3.get_object(Bucket=bucket, Key=line["key"], **which)
    name = f"{line['key'].rpartition('/')[2].removesuffix('.json')}.{line['version_id']}.json"
    noted = {
        "key": line["key"],
        "version_id": line["version_id"],
        "content_type": found["ContentType"],
        "metadata": found["Metadata"],
    }
    yield f"answers/{name}", found["Body"].read()
    yield f"metadata/{name}", json.dumps(noted, indent=2, sort_keys=True).encode() + b"\n"


def _zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in sorted(files):
            # A fixed time and no compression: the bytes depend on nothing but the evidence.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name])
    return content.getvalue()


def _faults(files: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    lines_of_sums = files.get(_SUMS, b"").decode("utf-8", "replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines_of_sums)}
    for name in sorted({*files, *sums} - {_SUMS}):
        if name not in files:
            yield name, "missing"
        elif sums.get(name) != hashlib.sha256(files[name]).hexdigest():
            yield name, f"not what {_SUMS} says"
    chain, previous, lines = sorted(name for name in files if name.startswith("ledger/")), None, set()
    for name in chain:
        try:
            entry = Entry.from_bytes(files[name])
        except ValueError:
            yield name, "not an entry of the ledger"
            previous = None
            continue
        if previous is not None and entry.previous != previous:
            yield name, "does not follow the entry before"
        previous = sha256(files[name])
        manifest = files.get(f"manifests/{entry.number:08d}.json")
        if manifest is not None:
            if sha256(manifest) != entry.sha256:
                yield f"manifests/{entry.number:08d}.json", f"not the manifest of {name}"
            else:
                lines |= {(line["version_id"], line["sha256"]) for line in json.loads(manifest)["clients"]}
    for name in sorted(name for name in files if name.startswith("answers/")):
        if (name.split(".")[-2], sha256(files[name])) not in lines:
            yield name, "no manifest of the ledger has this answer"
    if not chain:
        yield "ledger/", "no entry"
