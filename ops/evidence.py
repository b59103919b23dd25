"""Whether the archive is still what was archived: reads ledger, manifests and answers (spec: archive, Proof).

Reads only. An interrupted verification can go on: see :mod:`ops.evidence_checkpoint`.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from botocore.exceptions import ParamValidationError

from include.archive.keys import EVIDENCE, LEDGER, MANIFESTS, ledger_key, manifest_key
from include.archive.ledger import ENTRY_KEY, FIRST, Entry, SavedManifest, sha256
from include.archive.manifests import merged
from include.clients.aws import unless
from include.clients.s3 import NO_VERSION, json_bytes
from include.text import UNREADABLE
from ops.environment import Environment, aws_errors
from ops.evidence_checkpoint import Answer, Checkpoint, checkpoint
from ops.report import Report

CONNECTIONS = 32
"""Objects that are read at once."""

_MANIFESTS_AHEAD = 4
"""Manifests in memory at once: one of 10,000 clients has megabytes."""

_ARCHIVED = re.compile(r"trigger/(?P<client>-?\d+)/(?P=client)_trigger_(?P<day>\d{8})\.json", re.ASCII)
_MANIFEST = re.compile(rf"{MANIFESTS}(?P<day>\d{{8}})(?:/.+|\.json)", re.ASCII | re.DOTALL)
_NEVER, _NOT_YET = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

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

    def __str__(self) -> str:
        named = {"from": self.first, "to": self.last, "client": self.client}
        return ", ".join(f"{name} {value}" for name, value in named.items() if value is not None) or "all"

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


@dataclass(frozen=True)
class Unknown:
    """A version of an answer that no entry knows; ``old`` = it was archived before the ledger began."""

    key: str
    version: str
    old: bool


@dataclass
class Verification:
    """Verifies one bucket, with a boto3 client of ``CONNECTIONS`` connections; to be used once.

    Args:
        tell: says how far it is.
        entries: what can be read of the ledger, by number: each entry and its sha256.
        unknown: versions of answers that no entry knows.
        locked: answers that were read and that S3 Object Lock keeps.
        locked_until: the earliest end of such a lock.
        unlocked: answers that were read and whose lock has ended.
    """

    s3: Any
    bucket: str
    scope: Scope = field(default_factory=Scope)
    tell: Callable[[str], None] = lambda text: None
    entries: dict[int, tuple[Entry, str]] = field(default_factory=dict)
    unknown: list[Unknown] = field(default_factory=list)
    locked: int = 0
    locked_until: datetime | None = None
    unlocked: int = 0

    def __post_init__(self) -> None:
        self._began = _NOT_YET
        # Entries that a later one contradicts; days of which a manifest is not proven; manifests that no entry knows;
        # and those of each day's runs.
        self._contradicted, self._lost, self._strange = set[int](), set[str | None](), set[str]()
        self._runs = defaultdict[str, set[str]](set)

    def run(self, file: Path | None = None) -> tuple[list[Finding], dict[str, int]]:
        """Verify; what is proven is noted in the file, for another one to go on from if this is interrupted.

        Returns:
            the findings, worst first, and how many entries, manifests and answers were read.
        """
        of = f"{self.bucket} ({self.scope})"
        with checkpoint(file, of) as noted, ThreadPoolExecutor(CONNECTIONS) as threads:
            findings = list(self._ledger(threads))
            wanted = [
                (number, entry)
                for number, (entry, _) in self.entries.items()
                if entry.trigger_date is None or self.scope.covers_day(entry.trigger_date)
            ]
            findings += self._manifests(noted, threads, wanted)
            findings += self._other_manifests()
            findings += self._answers(noted, threads)
            findings += self._listed(noted)
            findings += self._days(threads)
            findings += self._unselected(noted)
            answers = noted.count()
        return findings, {"entries": len(self.entries), "manifests": len(wanted), "answers": answers}

    def _ledger(self, threads: ThreadPoolExecutor) -> Iterator[Finding]:
        """Read the entries, each as it was first written; what breaks the chain is a finding."""
        versions = defaultdict[str, list[dict[str, Any]]](list)
        for version in self._versions(LEDGER):
            versions[version["Key"]].append(version)
        keys = sorted(key for key in versions if ENTRY_KEY.fullmatch(key))
        for key in sorted(versions.keys() - set(keys)):
            yield Finding("added", key, "not an entry of the ledger")
        if keys:
            # Without its first entry nobody can tell what is older.
            self._began = min((each["LastModified"] for each in versions[ledger_key(FIRST)]), default=_NEVER)
        expected = FIRST
        for key, body in zip(keys, threads.map(lambda key: self._first(versions[key]), keys), strict=True):
            number = int(key.removeprefix(LEDGER).removesuffix(".json"))
            if number > expected:
                gone = (
                    "an entry is" if number - expected == 1 else f"{number - expected:,} entries from this one on are"
                )
                yield Finding("missing", ledger_key(expected), f"{gone} gone")
            expected = number + 1
            if body is None:
                yield Finding("missing", key, "an entry is gone")
                continue
            if not any(each["IsLatest"] and "ETag" in each for each in versions[key]):
                yield Finding("missing", key, "a delete marker hides the entry")
            elif len(versions[key]) > 1:
                yield Finding("rewritten", key, "the entry has more than one version; an entry is never rewritten")
            try:
                entry = Entry.from_bytes(body)
            except ValueError as error:
                yield Finding("rewritten", key, f"not an entry as it was written: {error}")
                continue
            self.entries[number] = entry, sha256(body)
            if entry.number != number or (entry.previous is None) != (number == FIRST):
                self._contradicted.add(number)
                yield Finding("rewritten", key, "number and place of the entry differ")
        yield from self._chain()

    def _chain(self) -> Iterator[Finding]:
        """Each entry names the digest of the one before; whether it may be believed, the one after it tells."""
        for number in sorted(self.entries, reverse=True):
            after, _ = self.entries.get(number + 1, (None, None))
            if after is None or not self._contradicted.isdisjoint({number, number + 1}):
                continue
            if after.previous != self.entries[number][1]:
                yield Finding("rewritten", ledger_key(number), f"entry {number + 1} names another digest")
                if number + 2 not in self.entries or number + 2 in self._contradicted:
                    yield Finding("rewritten", ledger_key(number + 1), "or this entry is the one that changed")
                self._contradicted.add(number)

    def _manifests(
        self, noted: Checkpoint, threads: ThreadPoolExecutor, wanted: list[tuple[int, Entry]]
    ) -> Iterator[Finding]:
        bodies = in_order(
            threads, wanted, lambda item: self._get(item[1].manifest, item[1].version_id), ahead=_MANIFESTS_AHEAD
        )
        for (number, entry), body in bodies:
            where = _where(entry.manifest, entry.version_id)
            believed = number not in self._contradicted
            if body is None or sha256(body) != entry.sha256:
                self._lost.add(entry.trigger_date)
                if not believed:
                    continue
                if entry.trigger_date:
                    self._runs[entry.trigger_date].add(entry.manifest)
                if body is None:
                    yield Finding("missing", where, f"the manifest of entry {number} is gone")
                else:
                    yield Finding("changed", where, f"not the manifest of entry {number}")
                if number == max(self.entries):
                    what = "or this entry is what changed: no later one proves it"
                    yield Finding("changed", ledger_key(number), what)
                continue
            try:
                document = json.loads(body)
                named = (document["run_id"], document["trigger_date"])
                day = named[1] and _day(named[1])
                lines = [
                    (line, operator.index(line["client_id"]), day or _day(line["trigger_date"]))
                    for line in document["clients"]
                ]
                answers = (
                    (str(line["key"]), str(line["version_id"] or ""), str(line["sha256"]))
                    for line, client, at in lines
                    if line["key"] and self.scope.covers(client, at)
                )
                noted.add(number, answers, ((client, at) for _, client, at in lines))
            except UNREADABLE:
                self._lost.add(entry.trigger_date)
                yield Finding("changed", where, "not a manifest as runs write them")
                continue
            if day:
                self._runs[day].add(entry.manifest)
            if believed and named != (entry.run_id, entry.trigger_date):
                yield Finding("changed", ledger_key(number), "names another run or day than its manifest")
        noted.prove()

    def _other_manifests(self) -> Iterator[Finding]:
        """Manifests that no entry knows, and those that are hidden. Of a day with runs, :meth:`_days` reads its own."""
        places = {(entry.manifest, entry.version_id) for entry, _ in self.entries.values()}
        known = {key for key, _ in places}
        of_days: dict[str, str] = {}
        for version in self._versions(MANIFESTS):
            key, where = version["Key"], _where(version["Key"], version["VersionId"])
            day = _day_in(_MANIFEST.fullmatch(key))
            # What lies below the latest version nobody reads, unless an entry names it.
            if not version["IsLatest"] or (day and not self.scope.covers_day(day)):
                continue
            if "ETag" not in version:
                if key in known:
                    yield Finding("missing", where, "a delete marker hides the manifest")
            elif day and key == manifest_key(date.fromisoformat(day)):
                if day not in self._runs and version["LastModified"] >= self._began:
                    of_days[day] = where
            elif places.isdisjoint({(key, version["VersionId"]), (key, None)}):
                self._strange.add(key)
                self._lost.add(day)
                yield Finding("added", where, "no entry of the ledger knows it", _PERHAPS_LATER)
        for day in sorted(of_days.keys() - self._lost):
            yield Finding("added", of_days[day], "no entry of the ledger is of this day", _PERHAPS_LATER)

    def _answers(self, noted: Checkpoint, threads: ThreadPoolExecutor) -> Iterator[Finding]:
        total = noted.count(unproven=True)
        digests = in_order(threads, noted.unproven(), lambda each: self.digest(*each[0][:2]))
        done: list[Answer] = []
        now = datetime.now(UTC)
        for number, (((key, version, expected), entry), (found, lock)) in enumerate(digests, 1):
            if lock and lock > now:
                self.locked += 1
                self.locked_until = min(self.locked_until or lock, lock)
            elif lock:
                self.unlocked += 1
            if found == expected:
                done.append((key, version, expected))
            elif found is None:
                yield Finding("missing", _where(key, version), f"the answer of entry {entry} is gone")
            else:
                yield Finding("changed", _where(key, version), f"sha256 is {found}, entry {entry} has {expected}")
            if number % 1000 == 0 or number == total:
                noted.prove(done)
                done.clear()
                self.tell(f"{number:,} of {total:,} answers read")

    def _listed(self, noted: Checkpoint) -> Iterator[Finding]:
        """Answers that no entry knows, and answers that somebody deleted."""
        lost = Counter[str]()
        prefix = EVIDENCE if self.scope.client is None else f"{EVIDENCE}{self.scope.client}/"
        for version in self._versions(prefix):
            found = client_and_day(version["Key"])
            if found and not self.scope.covers(*found):
                continue
            where = _where(version["Key"], version["VersionId"])
            if "ETag" not in version:
                if version["IsLatest"]:
                    yield Finding("missing", where, "a delete marker hides the answer")
                continue
            if noted.knows(version["Key"], version["VersionId"]):
                continue
            # The first run's answers are older than its entry, and are not what somebody is to adopt.
            day = found[1] if found else ""
            old = day not in self._lost and version["LastModified"] < self._began
            self.unknown.append(Unknown(version["Key"], version["VersionId"], old))
            if old:
                yield Finding("unproven", where, "archived before the ledger began", "ops evidence adopt")
            elif day in self._lost:
                lost[day] += 1
            else:
                yield Finding("added", where, "no entry of the ledger knows it", _PERHAPS_LATER)
        for day, count in lost.items():
            what = "no entry of the ledger knows them, and a manifest of the day is not proven"
            yield Finding("added", f"{count:,} answers of {day}", what)

    def _days(self, threads: ThreadPoolExecutor) -> Iterator[Finding]:
        """Each day's manifest must be what its runs' manifests make of it."""
        keys = {day: manifest_key(date.fromisoformat(day)) for day in sorted(self._runs)}
        for day, body in in_order(threads, keys, lambda day: self._get(keys[day], None), ahead=_MANIFESTS_AHEAD):
            try:
                finding = self._fault(day, keys[day], body)
            except UNREADABLE:
                finding = Finding("changed", keys[day], "not a day's manifest")
            if finding is not None:
                yield finding

    def _fault(self, day: str, key: str, body: bytes | None) -> Finding | None:
        """What is wrong with a day's manifest, if anything is."""
        if body is None:
            return Finding("missing", key, "the day's manifest is gone")
        runs = json.loads(body)["runs"]
        named = {run["manifest"] for run in runs} - {None}
        if lacking := self._runs[day] - named:
            return Finding("changed", key, f"lacks {', '.join(sorted(lacking))}")
        if strange := named - self._runs[day] - self._strange:
            what = f"names {', '.join(sorted(strange))}, which no entry of the ledger has"
            return Finding("added", key, what, _PERHAPS_LATER)
        # Releases before counted all lines of a run of which a part was cleared.
        if any(self._rebuilt(key, runs, whole=whole) in (None, body) for whole in (False, True)):
            return None
        return Finding("changed", key, "not what the manifests of its runs make of it")

    def _rebuilt(self, key: str, runs: list[dict[str, Any]], *, whole: bool) -> bytes | None:
        """A day's manifest as its runs make it; None if one of theirs is not what its entry says, as is told there."""
        day: dict[str, Any] | None = None
        lives: dict[str, dict[str, Any]] = {}
        times = Counter(run["run_id"] for run in runs)
        for run in runs:
            if run["manifest"] is None:
                day = self._of_before_the_ledger(key)
                continue
            body = self._get(run["manifest"], run["version_id"])
            saved = SavedManifest(run["manifest"], run["version_id"], run["sha256"])
            if body is None or sha256(body) != saved.sha256:
                return None if any(entry.is_of(run["run_id"], saved) for entry, _ in self.entries.values()) else b""
            found = json.loads(body)
            day = merged(day, found, saved, earlier=None if whole else lives.get(found["run_id"]))
            # What is not needed takes memory.
            if times[found["run_id"]] > 1:
                lives[found["run_id"]] = found
        return json_bytes(day)

    def _of_before_the_ledger(self, key: str) -> dict[str, Any] | None:
        """The last of a day's manifests that was written before the ledger began: it counts as a run of the day."""
        old = [each for each in self._versions(key) if "ETag" in each and each["LastModified"] < self._began]
        documents = (json.loads(self._get(key, each["VersionId"]) or b"{}") for each in old)
        return next((document for document in documents if "runs" not in document), None)

    def _unselected(self, noted: Checkpoint) -> Iterator[Finding]:
        """Clients that the day before and the day after have, and a day between, which had a run, has not."""
        asked = noted.days()
        days = sorted((asked | self._runs.keys()) - self._lost)
        for (before, day), (_, after) in pairwise(pairwise(days)):
            clients = [each for each in noted.missing(day, before, after) if self.scope.covers(each, day)]
            if day not in asked and clients:
                what = f"no run of the day selected any client, though the days around it have {len(clients):,} alike"
                yield Finding("not selected", day, what, f"ops backfill {day} {day} --again")
                continue
            for client in clients:
                yield Finding(
                    "not selected",
                    f"client {client}, {day}",
                    "no run of the day selected the client, though the days around it have it",
                    f"ops backfill {day} {day} --client {client} --again",
                )

    def _versions(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Versions and delete markers, by key, the newest first."""
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix):
            yield from page.get("Versions", [])
            yield from page.get("DeleteMarkers", [])

    def _first(self, versions: list[dict[str, Any]]) -> bytes | None:
        """What was first written under a key, whatever was put above it."""
        oldest = [each for each in versions if "ETag" in each][-1:]
        return self._get(oldest[0]["Key"], oldest[0]["VersionId"]) if oldest else None

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
        # The second: names that no object can have, such as of half a surrogate pair.
        with unless(NO_VERSION), suppress(ParamValidationError, UnicodeEncodeError):
            found: dict[str, Any] = self.s3.get_object(Bucket=self.bucket, Key=key, **which)
            return found
        return None


def verify(
    environment: Environment,
    scope: Scope,
    *,
    bucket: str | None = None,
    checkpoint: Path | None = None,
    tell: Callable[[str], None],
) -> Report:
    """Verify the archive of an environment, or a bucket that is named; a line for each thing that is not proven."""
    bucket = bucket or environment.output("ArchiveBucketName")
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
    # Whoever asks for a client or for days means answers: a mistyped number proves nothing.
    failed = bool(findings) or (scope != Scope() and not read["answers"])
    return Report(title, columns, [vars(finding) for finding in findings], [*_notes(verification)], failed=failed)


def _notes(verification: Verification) -> Iterator[str]:
    """What the locks are, and what to compare: whoever may write could have written the whole ledger anew."""
    until = verification.locked_until
    if until:
        yield f"{verification.locked:,} of them are locked, at least until {until:%Y-%m-%d}"
    if verification.unlocked:
        yield f"the locks of {verification.unlocked:,} of them have ended"
    if not until and not verification.unlocked:
        yield "no lock was seen; S3 shows locks to those only who may call s3:GetObjectRetention"
    if verification.entries:
        number = max(verification.entries)
        digest = verification.entries[number][1]
        yield f"entry {number} is the newest, with sha256 {digest}: compare that with what its run logged"


def client_and_day(key: str) -> tuple[int, str] | None:
    """Client and day of an answer's key; None if an answer has no such key."""
    found = _ARCHIVED.fullmatch(key)
    day = _day_in(found)
    return (int(found["client"]), day) if found and day else None


def _where(key: str, version: str | None) -> str:
    return f"{key} ({version})" if version else key


def _day_in(found: re.Match[str] | None) -> str | None:
    """The day in a key, which is ``YYYYMMDD`` there, if it is one."""
    try:
        return _day(found["day"]) if found else None
    except ValueError:
        return None


def _day(text: str) -> str:
    return date.fromisoformat(text).isoformat()


def in_order[T, R](
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
