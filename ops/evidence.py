"""Whether the archive is still what was archived: reads ledger, manifests and answers (spec: archive, Proof).

Reads only. What is proven is noted in a SQLite file, so that memory does not grow with the archive and an interrupted
run can go on.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from include.archive.keys import EVIDENCE, LEDGER, MANIFESTS, ledger_key, manifest_key
from include.archive.ledger import ENTRY_KEY, Entry, Ledger, SavedManifest, sha256
from include.archive.manifests import merged
from include.archive.store import lock_until
from include.clients.aws import unless
from include.text import UNREADABLE
from ops.environment import Environment, aws_errors
from ops.report import OpsError, Report

CONNECTIONS = 32
"""Objects that are read at once."""

_MANIFESTS_AHEAD = 4
"""Manifests in memory at once: one of 10,000 clients has megabytes."""

_GONE = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound", "MethodNotAllowed"})
_ARCHIVED = re.compile(r"trigger/(?P<client>-?\d+)/(?P=client)_trigger_(?P<day>\d{8})\.json", re.ASCII)
_ADOPTED = "adopted"

_TABLES = """
CREATE TABLE IF NOT EXISTS verified (bucket TEXT);
CREATE TABLE IF NOT EXISTS answers (
  key TEXT, version TEXT, sha256 TEXT, entry INTEGER, day TEXT, client INTEGER, proven INTEGER DEFAULT 0,
  PRIMARY KEY (key, version)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS selected (client INTEGER, day TEXT, PRIMARY KEY (client, day)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS manifests (
  key TEXT, version TEXT, sha256 TEXT, entry INTEGER, day TEXT, PRIMARY KEY (key, version)
) WITHOUT ROWID;
"""


_PERHAPS_LATER = (
    "a run has its entry when it ends: if one is under way or has just ended, verify again; else keep the bucket as it "
    "is and read docs/EVIDENCE.md, When something is found"
)


@dataclass(frozen=True)
class Finding:
    """One thing that is not proven.

    Args:
        kind: ``changed``, ``missing``, ``added``, ``rewritten``, ``not selected`` or ``unproven``.
        where: the object, or client and day.
        what: in words.
        do: what to do next.
    """

    kind: str
    where: str
    what: str
    do: str = "keep the bucket as it is and read docs/EVIDENCE.md, When something is found"


@dataclass(frozen=True)
class Scope:
    """What to verify; None is all. Both days are included."""

    first: date | None = None
    last: date | None = None
    client: int | None = None

    def covers(self, client: int, day: str) -> bool:
        """Whether an answer is to be verified."""
        return (
            (self.client is None or client == self.client)
            and (self.first is None or day >= self.first.isoformat())
            and (self.last is None or day <= self.last.isoformat())
        )

    def covers_day(self, day: str) -> bool:
        """Whether some answer of a day is to be verified."""
        return self.covers(self.client or 0, day)


@dataclass
class Verification:
    """Verifies one bucket, with a boto3 client of ``CONNECTIONS`` connections; ``tell`` says how far it is.

    Args:
        locked: answers that were read and that S3 Object Lock keeps.
        locked_until: the earliest end of such a lock.
    """

    s3: Any
    bucket: str
    scope: Scope = field(default_factory=Scope)
    tell: Callable[[str], None] = lambda text: None
    locked: int = 0
    locked_until: datetime | None = None

    def run(self, checkpoint: Path | None = None) -> tuple[list[Finding], dict[str, int]]:
        """Verify; what is proven is noted in the checkpoint, to go on from, or in a file that is deleted afterwards.

        Returns:
            the findings, worst first, and how many entries, manifests and answers were read.
        """
        with _database(checkpoint, self.bucket) as database, ThreadPoolExecutor(CONNECTIONS) as threads:
            entries = list(self._entries(threads))
            findings = [found for found in entries if isinstance(found, Finding)]
            chain = [found for found in entries if isinstance(found, tuple)]
            findings += self._manifests(database, threads, [entry for entry, _ in chain])
            findings += self._answers(database, threads)
            findings += self._listed(database, began=chain[0][1] if chain else None)
            findings += self._days(database, threads)
            findings += self._unselected(database)
            read = {
                "entries": len(chain),
                "manifests": _count(database, "manifests"),
                "answers": _count(database, "answers"),
            }
        return findings, read

    def _entries(self, threads: ThreadPoolExecutor) -> Iterator[Finding | tuple[Entry, datetime]]:
        """The chain, in its order; what breaks it is a finding."""
        versions: dict[str, list[dict[str, Any]]] = {}
        for version in self._versions(LEDGER):
            versions.setdefault(version["Key"], []).append(version)
        keys = sorted(key for key in versions if ENTRY_KEY.fullmatch(key))
        for key in sorted(versions.keys() - set(keys)):
            yield Finding("added", key, "not an entry of the ledger")
        bodies = threads.map(lambda key: self._get(key, None), keys)
        previous, expected = None, 1
        for key, body in zip(keys, bodies, strict=True):
            if len(versions[key]) > 1:
                yield Finding("rewritten", key, "the entry has more than one version; an entry is never rewritten")
            if key > ledger_key(expected):
                first, expected = expected, max(_number_in(key), expected)
                gone = "an entry is" if expected - first == 1 else f"{expected - first:,} entries from this one on are"
                yield Finding("missing", ledger_key(first), f"{gone} gone")
                previous = None
            try:
                entry = Entry.from_bytes(body or b"")
            except ValueError as error:
                yield Finding("rewritten", key, f"not an entry as it was written: {error}")
                previous, expected = None, expected + 1
                continue
            if ledger_key(entry.number) != key or (entry.previous is None) != (entry.number == 1):
                yield Finding("rewritten", key, "number and place of the entry differ")
            elif previous is not None and entry.previous != previous:
                yield Finding("rewritten", ledger_key(entry.number - 1), f"entry {entry.number} names another digest")
                yield Finding("rewritten", key, "or this entry is the one that changed")
            previous, expected = sha256(body or b""), expected + 1
            yield entry, versions[key][-1]["LastModified"]

    def _manifests(
        self, database: sqlite3.Connection, threads: ThreadPoolExecutor, entries: list[Entry]
    ) -> Iterator[Finding]:
        wanted = [entry for entry in entries if entry.trigger_date is None or self.scope.covers_day(entry.trigger_date)]
        bodies = _in_order(
            threads, wanted, lambda entry: self._get(entry.manifest, entry.version_id), ahead=_MANIFESTS_AHEAD
        )
        for entry, body in bodies:
            where = f"{entry.manifest} ({entry.version_id})"
            if body is None or sha256(body) != entry.sha256:
                if body is None:
                    yield Finding("missing", where, f"the manifest of entry {entry.number} is gone")
                else:
                    yield Finding("changed", where, f"not the manifest of entry {entry.number}")
                if entry is entries[-1]:
                    what = "or this entry is what changed: no later one proves it"
                    yield Finding("changed", ledger_key(entry.number), what)
                continue
            try:
                document = json.loads(body)
                day = document["trigger_date"] and date.fromisoformat(document["trigger_date"]).isoformat()
                lines = [(line, day or line["trigger_date"]) for line in document["clients"]]
                answers = [
                    (line["key"], line["version_id"] or "", line["sha256"], entry.number, at, line["client_id"])
                    for line, at in lines
                    if line["key"] and self.scope.covers(line["client_id"], at)
                ]
                selected = [(line["client_id"], at) for line, at in lines]
                named = (document["run_id"], document["trigger_date"])
            except UNREADABLE:
                yield Finding("changed", where, "not a manifest as runs write them")
                continue
            if named != (entry.run_id, entry.trigger_date):
                yield Finding("changed", ledger_key(entry.number), "names another run or day than its manifest")
            database.execute(
                "INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?, ?)",
                (entry.manifest, entry.version_id or "", entry.sha256, entry.number, day or ""),
            )
            database.executemany(
                "INSERT OR IGNORE INTO answers (key, version, sha256, entry, day, client) VALUES (?, ?, ?, ?, ?, ?)",
                answers,
            )
            database.executemany("INSERT OR IGNORE INTO selected VALUES (?, ?)", selected)
        database.commit()

    def _answers(self, database: sqlite3.Connection, threads: ThreadPoolExecutor) -> Iterator[Finding]:
        (total,) = database.execute("SELECT count(*) FROM answers WHERE NOT proven").fetchone()
        digests = _in_order(threads, _unproven(database), lambda row: self.digest(row[0], row[1] or None))
        done: list[tuple[str, str]] = []
        for number, ((key, version, expected, entry), (found, lock)) in enumerate(digests, 1):
            self.locked += lock is not None
            self.locked_until = min(self.locked_until or lock, lock) if lock else self.locked_until
            if found == expected:
                done.append((key, version))
            elif found is None:
                yield Finding("missing", f"{key} ({version})", f"the answer of entry {entry} is gone")
            else:
                yield Finding("changed", f"{key} ({version})", f"sha256 is {found}, entry {entry} has {expected}")
            if number % 1000 == 0 or number == total:
                database.executemany("UPDATE answers SET proven = 1 WHERE key = ? AND version = ?", done)
                database.commit()
                done.clear()
                self.tell(f"{number:,} of {total:,} answers read")

    def _listed(self, database: sqlite3.Connection, *, began: datetime | None) -> Iterator[Finding]:
        """Answers that no entry knows, and answers that somebody deleted."""
        prefix = EVIDENCE if self.scope.client is None else f"{EVIDENCE}{self.scope.client}/"
        for version in self._versions(prefix):
            found = _client_and_day(version["Key"])
            if found and not self.scope.covers(*found):
                continue
            where = f"{version['Key']} ({version['VersionId']})"
            if "ETag" not in version:
                if version["IsLatest"]:
                    yield Finding("missing", where, "a delete marker hides the answer")
                continue
            row = database.execute(
                "SELECT 1 FROM answers WHERE key = ? AND version IN (?, '')", (version["Key"], version["VersionId"])
            ).fetchone()
            if row is None:
                old = began is None or version["LastModified"] < began
                yield (
                    Finding("unproven", where, "archived before the ledger began", "ops evidence adopt")
                    if old
                    else Finding("added", where, "no entry of the ledger knows it", _PERHAPS_LATER)
                )

    def _days(self, database: sqlite3.Connection, threads: ThreadPoolExecutor) -> Iterator[Finding]:
        """Each day's manifest must be what its runs' manifests make of it."""
        days = [day for (day,) in database.execute("SELECT DISTINCT day FROM manifests WHERE day != ''")]
        bodies = _in_order(
            threads, days, lambda day: self._get(manifest_key(date.fromisoformat(day)), None), ahead=_MANIFESTS_AHEAD
        )
        for day, body in bodies:
            key = manifest_key(date.fromisoformat(day))
            if body is None:
                yield Finding("missing", key, "the day's manifest is gone")
                continue
            try:
                document = json.loads(body)
                rebuilt = self._is_made_of_its_runs(document, body)
            except UNREADABLE:
                yield Finding("changed", key, "not a day's manifest")
                continue
            known = {row[0] for row in database.execute("SELECT key FROM manifests WHERE day = ?", (day,))}
            named = {run["manifest"] for run in document["runs"] if run["manifest"]}
            if not rebuilt:
                yield Finding("changed", key, "not what the manifests of its runs make of it")
            elif known - named:
                yield Finding("changed", key, f"lacks {', '.join(sorted(known - named))}")

    def _is_made_of_its_runs(self, document: dict[str, Any], body: bytes) -> bool:
        """Whether a day's manifest is what its runs make of it, as far as can be told: one may be of before the ledger.

        Releases before counted all lines of a run of which a part was cleared.
        """
        if any(run["manifest"] is None for run in document["runs"]):
            return True
        return any(
            json.dumps(self._rebuilt(document, whole=whole), separators=(",", ":")).encode("ascii") == body
            for whole in (False, True)
        )

    def _rebuilt(self, document: dict[str, Any], *, whole: bool) -> dict[str, Any] | None:
        day: dict[str, Any] | None = None
        lives: dict[str, dict[str, Any]] = {}
        times = Counter(run["run_id"] for run in document["runs"])
        for run in document["runs"]:
            body = self._get(run["manifest"], run["version_id"])
            if body is None:
                return None
            saved, found = SavedManifest(run["manifest"], run["version_id"], sha256(body)), json.loads(body)
            day = merged(day, found, saved, earlier=None if whole else lives.get(found["run_id"]))
            # Only of versions that can be read again, as Manifests.merge_day does; and what is not needed takes memory.
            if run["version_id"] and times[found["run_id"]] > 1:
                lives[found["run_id"]] = found
        return day

    def _unselected(self, database: sqlite3.Connection) -> Iterator[Finding]:
        """Clients that the day before and the day after have, and a day between, which had a run, has not."""
        days = [day for (day,) in database.execute("SELECT DISTINCT day FROM selected ORDER BY day")]
        for (before, day), (_, after) in pairwise(pairwise(days)):
            missing = database.execute(
                "SELECT a.client FROM selected a JOIN selected b ON a.client = b.client AND a.day = ? AND b.day = ? "
                "WHERE NOT EXISTS (SELECT 1 FROM selected c WHERE c.client = a.client AND c.day = ?)",
                (before, after, day),
            )
            for (client,) in missing:
                if self.scope.covers(client, day):
                    yield Finding(
                        "not selected",
                        f"client {client}, {day}",
                        "no run of the day selected the client, though the days around it have it",
                        f"ops backfill {day} {day} --client {client} --again",
                    )

    def _versions(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Versions and delete markers, by key."""
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix):
            yield from page.get("Versions", [])
            yield from page.get("DeleteMarkers", [])

    def _get(self, key: str, version: str | None) -> bytes | None:
        """A small object; None if it is gone."""
        found = self._found(key, version)
        return found["Body"].read() if found else None

    def digest(self, key: str, version: str | None) -> tuple[str | None, datetime | None]:
        """The sha256 of an answer, read in blocks, None if it is gone; and until when it is locked."""
        found = self._found(key, version)
        if found is None:
            return None, None
        return hashlib.file_digest(found["Body"], "sha256").hexdigest(), found.get("ObjectLockRetainUntilDate")

    def _found(self, key: str, version: str | None) -> dict[str, Any] | None:
        which = {"VersionId": version} if version else {}
        with unless(_GONE):
            found: dict[str, Any] = self.s3.get_object(Bucket=self.bucket, Key=key, **which)
            return found
        return None


def verify(
    environment: Environment, scope: Scope, *, checkpoint: Path | None = None, tell: Callable[[str], None]
) -> Report:
    """Verify the archive of an environment; the report has a line for each thing that is not proven."""
    bucket = environment.output("ArchiveBucketName")
    with aws_errors("S3"):
        s3 = environment.aws("s3", connections=CONNECTIONS)
        verification = Verification(s3, bucket, scope, tell)
        findings, read = verification.run(checkpoint)
    verdict = "everything is proven" if read["answers"] else "there is no answer to prove"
    title = (
        f"s3://{bucket}: {read['entries']:,} entries, {read['manifests']:,} manifests, {read['answers']:,} answers "
        f"read; {f'{len(findings):,} findings' if findings else verdict}"
    )
    columns = {"kind": "kind", "where": "where", "what": "what", "do": "what to do"}
    until = verification.locked_until
    notes = (
        [f"{verification.locked:,} of them are locked, at least until {until:%Y-%m-%d}"]
        if until
        else ["no lock was seen; S3 shows locks to those only who may call s3:GetObjectRetention"]
    )
    # Whoever asks for a client or for days means answers: a mistyped number proves nothing.
    failed = bool(findings) or (scope != Scope() and not read["answers"])
    return Report(title, columns, [vars(finding) for finding in findings], notes, failed=failed)


def adopt(
    environment: Environment,
    *,
    added: Collection[str] = (),
    agree: Callable[[str], None],
    tell: Callable[[str], None],
) -> Report:
    """Write one entry for the answers that were archived before the ledger began, as they are now.

    And for those of the keys ``added`` that are reported as such, once somebody knows where they come from. All of it
    is locked as what a run writes is.
    """
    bucket = environment.output("ArchiveBucketName")
    mode, days = environment.parameter("ArchiveLockMode", "NONE"), int(environment.parameter("ArchiveLockDays", "0"))
    lock = lock_until(mode, days, datetime.now(UTC))
    s3 = environment.aws("s3", connections=CONNECTIONS)
    with aws_errors("S3"):
        verification = Verification(s3, bucket, tell=tell)
        findings, _ = verification.run()
        old = [
            found.where
            for found in findings
            if found.kind == "unproven" or (found.kind == "added" and found.where.partition(" (")[0] in added)
        ]
        if unknown := sorted(set(added) - {where.partition(" (")[0] for where in old}):
            raise OpsError(f"'ops evidence verify' reports nothing as added at {', '.join(unknown)}")
        if not old:
            raise OpsError("no answer of before the ledger lacks an entry")
        locked = f", and lock them for {days:,} days ({mode})" if lock else ""
        agree(f"Take {len(old):,} answers of s3://{bucket} into the ledger as they are now{locked}?")
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            lines = [line for _, line in _in_order(threads, old, lambda where: _adopted(verification, where, lock))]
        document = {"trigger_date": None, "run_id": _ADOPTED, "errors": [], "clients": lines}
        body = json.dumps(document, separators=(",", ":")).encode("ascii")
        key = f"{MANIFESTS}{_ADOPTED}/{sha256(body)}.json"
        ledger = Ledger(s3, bucket, lock)
        newest = ledger.newest()
        written = s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", **lock)
        saved = SavedManifest(key, written.get("VersionId"), sha256(body))
        entry = ledger.append(_ADOPTED, None, saved, newest)
    return Report(
        f"entry {entry.number} of the ledger",
        {"key": "manifest", "answers": "answers"},
        [{"key": key, "answers": len(old)}],
    )


def _adopted(verification: Verification, where: str, lock: dict[str, Any]) -> dict[str, Any]:
    key, _, version = where.removesuffix(")").partition(" (")
    found = _client_and_day(key)
    if found is None:
        raise OpsError(f"{key} is not the key of an answer: move it away from {EVIDENCE}, then try again")
    head = verification.s3.head_object(Bucket=verification.bucket, Key=key, VersionId=version)
    client, day = found
    # One that is there already may last longer, or may not be made shorter.
    if lock and "ObjectLockRetainUntilDate" not in head:
        verification.s3.put_object_retention(
            Bucket=verification.bucket,
            Key=key,
            VersionId=version,
            Retention={name.removeprefix("ObjectLock"): value for name, value in lock.items()},
        )
    return {
        "client_id": client,
        "trigger_date": day,
        "key": key,
        "sha256": verification.digest(key, version)[0],
        "bytes": head["ContentLength"],
        "version_id": version,
        "outcome": "archived",
        "run_id": _ADOPTED,
    }


def _client_and_day(key: str) -> tuple[int, str] | None:
    """Client and day of an answer's key; None if an answer has no such key."""
    found = _ARCHIVED.fullmatch(key)
    try:
        return (int(found["client"]), date.fromisoformat(found["day"]).isoformat()) if found else None
    except ValueError:
        return None


def _number_in(key: str) -> int:
    return int(key.removeprefix(LEDGER).removesuffix(".json"))


def _unproven(database: sqlite3.Connection) -> Iterator[tuple[str, str, str, int]]:
    """Answers that are still to be read, page by page: those of a page may be marked meanwhile."""
    key, version = "", ""
    while rows := database.execute(
        "SELECT key, version, sha256, entry FROM answers WHERE NOT proven AND (key, version) > (?, ?) "
        "ORDER BY key, version LIMIT 1000",
        (key, version),
    ).fetchall():
        yield from rows
        key, version = rows[-1][:2]


def _in_order[T, R](
    threads: ThreadPoolExecutor, items: Iterable[T], work: Callable[[T], R], *, ahead: int = 2 * CONNECTIONS
) -> Iterator[tuple[T, R]]:
    """Each item with its result, in their order; no more than ``ahead`` are under way or wait for their turn."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    for item in items:
        if len(waiting) == ahead:
            first, future = waiting.popleft()
            yield first, future.result()
        waiting.append((item, threads.submit(work, item)))
    for item, future in waiting:
        yield item, future.result()


@contextmanager
def _database(checkpoint: Path | None, bucket: str) -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory(prefix="evidence-") as scratch:
        file = checkpoint or Path(scratch, "proven.sqlite")
        try:
            database = sqlite3.connect(file)
            database.executescript(_TABLES)
        except sqlite3.Error as error:
            raise OpsError(f"checkpoint {file} cannot be used: {error}") from None
        with closing(database):
            (of,) = database.execute("SELECT min(bucket) FROM verified").fetchone()
            if of not in (None, bucket):
                raise OpsError(f"checkpoint {file} is of {of}, not of {bucket}: name another file")
            database.execute("INSERT INTO verified VALUES (?)", (bucket,))
            yield database
            database.commit()


def _count(database: sqlite3.Connection, table: str) -> int:
    (count,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - a name of ours
    return int(count)
