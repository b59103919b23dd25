"""A zip that proves one client's answers: written, and checked (spec: archive, Proof)."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from include.archive.export import PAGE, SUMS, answer_name, evidence_files, zipped
from include.archive.ledger import Entry, sha256
from include.errors import InvalidInputError
from include.text import UNREADABLE
from ops.environment import Environment, aws_errors
from ops.report import OpsError, Report


def export(
    environment: Environment, client: int, first: date, last: date, target: Path, *, bucket: str | None = None
) -> Report:
    """Write the zip, of the environment's archive or of a bucket that is named; the same bytes for the same evidence.

    Raises:
        OpsError: the ledger knows no answer of this client in the range or is not as it was written, or the file cannot
            be written.
    """
    bucket, s3 = bucket or environment.output("ArchiveBucketName"), environment.aws("s3")
    with aws_errors("S3"):
        try:
            files = evidence_files(s3, bucket, client, first, last)
        except InvalidInputError as error:
            raise OpsError(str(error)) from None
    try:
        target.write_bytes(zipped(files))
    except OSError as error:
        raise OpsError(f"{target} cannot be written: {error.strerror}") from None
    rows = [{"file": name, "bytes": len(files[name])} for name in sorted(files)]
    notes = [f"{target}: check it with 'ops evidence export --verify {target}', or as its {PAGE} says"]
    return Report(f"evidence of client {client}, {first} to {last}", {"file": "file", "bytes": "bytes"}, rows, notes)


def check(source: Path) -> Report:
    """Check a zip that :func:`export` wrote, without any access."""
    try:
        with zipfile.ZipFile(source) as archive:
            # Whoever packs the files again may have named the folders too.
            files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    # RuntimeError: it is encrypted, or compressed in a way that is not known.
    except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise OpsError(f"{source} cannot be read: {error}") from None
    rows = [{"file": name, "fault": fault} for name, fault in _faults(files)]
    title = f"{source}: {len(files)} files; " + ("everything is proven" if not rows else f"{len(rows)} faults")
    return Report(title, {"file": "file", "fault": "what is wrong"}, rows, failed=bool(rows))


def _faults(files: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    lines_of_sums = files.get(SUMS, b"").decode("utf-8", "replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines_of_sums)}
    for name in sorted({*files, *sums} - {SUMS}):
        if name not in files:
            yield name, "missing"
        elif sums.get(name) != hashlib.sha256(files[name]).hexdigest():
            yield name, f"not what {SUMS} says"
    answers = sorted(name for name in files if name.startswith("answers/"))
    days = {name.partition(".")[0] for name in answers}
    clients = {day.partition("_")[0] for day in days}
    digests, meant = defaultdict[str, set[str]](set), set[str]()
    chain, previous = sorted(name for name in files if name.startswith("ledger/")), None
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
        of_entry = f"manifests/{entry.number:08d}.json"
        manifest = files.get(of_entry)
        if manifest is not None:
            try:
                if sha256(manifest) != entry.sha256:
                    yield of_entry, f"not the manifest of {name}"
                else:
                    document = json.loads(manifest)
                    for line in document["clients"]:
                        if line["key"]:
                            answer = f"answers/{answer_name(str(line['key']), line['version_id'])}"
                            digests[answer].add(line["sha256"])
                            day = answer.partition(".")[0]
                            # What was adopted is of all days; of which the zip is, its answers tell.
                            if day in days or (document["trigger_date"] and day.partition("_")[0] in clients):
                                meant.add(answer)
            except UNREADABLE:
                yield of_entry, "not a manifest as runs write them"
    for name in answers:
        if sha256(files[name]) not in digests[name]:
            yield name, "no manifest of the ledger has this answer"
    for name in sorted(meant - files.keys() - sums.keys()):
        yield name, "left out: a manifest of the ledger has this answer"
    for folder, found in {"ledger/": chain, "answers/": answers}.items():
        if not found:
            yield folder, "nothing is there"
