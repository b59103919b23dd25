"""A zip that proves one client's answers to somebody without any access (spec: archive, Proof)."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any
from urllib.parse import quote

from include.archive.keys import EVIDENCE, archive_key, ledger_key
from include.archive.ledger import Entry, Ledger, sha256
from include.clients.aws import unless
from include.clients.s3 import NO_VERSION
from include.errors import InvalidInputError
from include.text import UNREADABLE

_AT_ONCE = 10
_VERIFY = "'ops evidence verify' names all that changed or is missing"

SUMS = "sha256sums"
PAGE = "README.txt"
_TEXT = """\
What this proves
================

answers/      what the DEX API answered, byte for byte, in every version that the archive has
metadata/     what the archive noted of each version when it was stored
manifests/    the manifests of the runs that stored them: a line for each client
ledger/       the ledger from the first of those runs to the newest

1. Nothing in this zip was changed since it was made:

     sha256sum --check sha256sums

2. Each answer is the one that its run stored. Compare its digest with the line of the manifest; one without a line is
   in the archive, but no run accounted for it, so nothing proves it:

     sha256sum answers/*
     jq -c '.clients[] | select(.client_id == {client}) | [.key, .version_id, .sha256]' manifests/*

3. Each manifest is the one that the ledger has:

     sha256sum manifests/*
     jq -r '[.sha256, .manifest] | join("  ")' ledger/*

4. Each entry of the ledger holds the digest of the entry before. These two columns must be equal, one line apart:

     sha256sum ledger/*
     jq -r .previous ledger/*

What it cannot show: that nobody rewrote the whole ledger before this zip was made. Compare the digest of the newest
entry with the one that its run logged, or with another zip. Nor that no run is left out with its manifest: those that
did not select the client are not here.
"""


def evidence_files(s3: Any, bucket: str, client: int, first: date, last: date) -> dict[str, bytes]:
    """What the zip holds, by name; the same bytes for the same evidence. The ledger is read to its newest entry.

    The boto3 client has to be for ten requests at once; its errors are botocore's. Both days are included.

    Raises:
        InvalidInputError: the ledger knows no answer of this client in the range, or is not as it was written, or
            something that it names is gone.
    """
    try:
        files = dict(_files(s3, bucket, client, first, last))
    except UNREADABLE as error:
        raise InvalidInputError(f"ledger or manifests are not as runs write them ({error}): {_VERIFY}") from None
    if not any(name.startswith("answers/") for name in files):
        raise InvalidInputError(f"client {client} has no answer in the ledger from {first} to {last}")
    files[PAGE] = _TEXT.replace("{client}", str(client)).encode()
    files[SUMS] = "".join(f"{sha256(files[name])}  {name}\n" for name in sorted(files)).encode()
    return files


def _files(s3: Any, bucket: str, client: int, first: date, last: date) -> Iterator[tuple[str, bytes]]:
    keys = {archive_key(client, first + timedelta(days=number)) for number in range((last - first).days + 1)}

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        numbers = range(1, Ledger(s3, bucket).last() + 1)
        bodies = list(threads.map(lambda number: _get(s3, bucket, ledger_key(number))["Body"].read(), numbers))
    began, known = False, set[tuple[str, str | None]]()
    for number, body in enumerate(bodies, 1):
        entry = Entry.from_bytes(body)
        lines: list[dict[str, Any]] = []
        if entry.trigger_date is None or first.isoformat() <= entry.trigger_date <= last.isoformat():
            manifest = _get(s3, bucket, entry.manifest, entry.version_id)["Body"].read()
            lines = [line for line in json.loads(manifest)["clients"] if line["key"] in keys]
            if lines:
                began = True
                yield f"manifests/{number:08d}.json", manifest
        if began:
            yield f"ledger/{number:08d}.json", body
        for line in lines:
            known.add((line["key"], line["version_id"]))
            yield from _answer(s3, bucket, line["key"], line["version_id"])
    if not began:
        return
    # Versions that no run accounted for: to leave them out would show the archive otherwise than it is.
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=f"{EVIDENCE}{client}/"):
        for version in page.get("Versions", []):
            key, version_id = version["Key"], version["VersionId"]
            if key in keys and known.isdisjoint({(key, version_id), (key, None)}):
                yield from _answer(s3, bucket, key, version_id)


def _answer(s3: Any, bucket: str, key: str, version_id: str | None) -> Iterator[tuple[str, bytes]]:
    found, name = _get(s3, bucket, key, version_id), answer_name(key, version_id)
    noted = {
        "key": key,
        "version_id": version_id,
        "content_type": found["ContentType"],
        "metadata": found["Metadata"],
    }
    yield f"answers/{name}", found["Body"].read()
    yield f"metadata/{name}", json.dumps(noted, indent=2, sort_keys=True).encode() + b"\n"


def answer_name(key: str, version_id: str | None) -> str:
    """Name of a version's file: that of its key, and the version's id, in which S3 may have any character."""
    return f"{key.rpartition('/')[2].removesuffix('.json')}.{quote(str(version_id), safe='')}.json"


def _get(s3: Any, bucket: str, key: str, version_id: str | None = None) -> Any:
    with unless(NO_VERSION):
        return s3.get_object(Bucket=bucket, Key=key, **({"VersionId": version_id} if version_id else {}))
    raise InvalidInputError(f"{key}{f' ({version_id})' if version_id else ''} is gone: {_VERIFY}")


def zipped(files: dict[str, bytes]) -> bytes:
    """The zip of these files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in sorted(files):
            # A fixed time and no compression: the bytes depend on nothing but the evidence.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name])
    return content.getvalue()
