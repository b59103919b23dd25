"""Days: a calendar of what was archived, the clients of a day, and the plan of a backfill."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Self

import msgspec
from fastapi import APIRouter, HTTPException, Query
from pydantic import Field

from airflow_ext.ids import DEX_TRIGGER_ARCHIVE
from airflow_ext.operations.reading import ROWS, Reads, page
from airflow_ext.operations.routing import Cursor, answers, metadata
from airflow_ext.outside import outside
from include.archive.keys import MANIFESTS, archive_key, manifest_key
from include.errors import InvalidInputError

router = APIRouter(prefix="/days", dependencies=[metadata(DEX_TRIGGER_ARCHIVE)])

MOST_DAYS_PLANNED = 366
MOST_CLIENTS_PLANNED = 50
MOST_FAILED = 1_000
"""Clients that one click runs again."""

_COUNTS = ("total_clients", "successful_archives", "failed_archives", "unchanged")
Day = Annotated[date, Field(ge=date(1970, 1, 1))]
"""Of a request; a year before the first may be looked at, too."""

_DAY_OF = re.compile(r"/(\d{4})(\d{2})(\d{2})\.json\Z", re.ASCII)


class Line(msgspec.Struct, gc=False):
    """A client's line of a day's manifest."""

    client_id: int
    outcome: str
    client_name: str | None = None
    bytes: int | float | None = None
    run_id: str | None = None


class Failure(msgspec.Struct, gc=False):
    """Why a client of the day failed."""

    client_id: int
    error: str | None = None


class Run(msgspec.Struct, gc=False):
    """A run of the day."""

    run_id: str


class Head(msgspec.Struct):
    """A day's manifest but for its lines."""

    total_clients: int
    successful_archives: int
    failed_archives: int
    unchanged: int
    errors: list[Failure]
    runs: list[Run] = []


class _Lines(msgspec.Struct):
    clients: list[Line]


_HEAD, _LINES = msgspec.json.Decoder(Head), msgspec.json.Decoder(_Lines)
_SOME = msgspec.json.Decoder(list[Line])
_BEGIN, _END = b'"clients":[', b'],"runs":['
"""Around the lines: no string has these bytes, as its quotation marks are escaped."""


@dataclass(frozen=True)
class DayManifest:
    """A day's manifest, of which only the lines that are shown are made: all 10,000 take as long as the other work."""

    key: str
    body: bytes = field(repr=False)
    head: Head

    @classmethod
    def read(cls, key: str, body: bytes) -> Self:
        """Raises InvalidInputError: it is no manifest of a day."""
        begin, end = body.find(_BEGIN) + len(_BEGIN), body.rfind(_END)
        with suppress(ValueError):
            if len(_BEGIN) <= begin <= end:
                return cls(key, body, _HEAD.decode(body[:begin] + body[end:]))
        return cls(key, body, _decoded(key, body, _HEAD))

    def lines(self) -> list[Line]:
        """All lines, in the order of the clients' ids; raises as :meth:`read`."""
        return _decoded(self.key, self.body, _LINES).clients

    def first_lines(self, most: int) -> list[Line]:
        """The first lines; raises as :meth:`read`."""
        begin = end = self.body.find(_BEGIN) + len(_BEGIN) - 1
        for _ in range(most):
            end = self.body.find(b"},", end + 1)
            if end < 0:
                break
        with suppress(ValueError):
            found = _SOME.decode(self.body[begin : end + 1] + b"]")
            if len(found) == most:
                return found
        # A name has such a mark, or somebody else wrote the manifest in another form.
        return self.lines()[:most]

    def line_of(self, client: int) -> Line | None:
        """A client's line, or None; raises as :meth:`read`."""
        at = self.body.find(b'{"client_id":%d,' % client, self.body.find(_BEGIN))
        with suppress(ValueError):
            if at >= 0:
                return _SOME.decode(b"[%b]" % self.body[at : self.body.find(b"}", at) + 1])[0]
        return next((line for line in self.lines() if line.client_id == client), None)


def today(reads: Reads) -> date:
    """Today in the business time zone."""
    return datetime.fromtimestamp(outside.now(), UTC).astimezone(reads.settings.zone).date()


def day_manifests(reads: Reads, first: date, last: date) -> dict[date, str]:
    """ETags of the manifests of the days from ``first`` to ``last``, by one LIST."""
    listed = reads.listed(
        reads.settings.archive_bucket, MANIFESTS, after=manifest_key(first - timedelta(days=1)), delimiter="/", pages=3
    )
    found = {}
    for each in listed:
        day = day_in(_DAY_OF.search(each["Key"]))
        if day and first <= day <= last:
            found[day] = each["ETag"]
    return found


def day_in(match: re.Match[str] | None) -> date | None:
    """The day of a key that names one; of what else somebody put there, None."""
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:
        return None


def counts(reads: Reads, day: date, etag: str) -> dict[str, int]:
    """The counts of a day's manifest, from its metadata; of one that has none, from its body."""

    def read() -> dict[str, int]:
        noted = reads.aws("s3").head_object(Bucket=reads.settings.archive_bucket, Key=manifest_key(day))["Metadata"]
        if "total_clients" not in noted:
            return _counts(manifest(reads, day, etag).head)
        return {name: int(noted[name]) for name in _COUNTS}

    return reads.object("counts", manifest_key(day), etag, read)


def manifest(reads: Reads, day: date, etag: str) -> DayManifest:
    """A day's manifest; raises as :meth:`DayManifest.read`."""
    key = manifest_key(day)

    def read() -> DayManifest:
        return DayManifest.read(
            key, reads.aws("s3").get_object(Bucket=reads.settings.archive_bucket, Key=key)["Body"].read()
        )

    return reads.document(key, etag, read)


def _decoded[Part: (Head, _Lines)](key: str, body: bytes, decoder: msgspec.json.Decoder[Part]) -> Part:
    try:
        try:
            return decoder.decode(body)
        except msgspec.DecodeError:
            # NaN or half a surrogate pair, which somebody else wrote; this reads it, and takes five times as long.
            return msgspec.convert(json.loads(body), decoder.type)
    except ValueError as error:
        raise InvalidInputError(f"{key} is no manifest of a day: {error}") from None


def matching(lines: list[Line], wanted: str) -> list[Line]:
    """The lines with this text, in lower case, in the client's id or name."""
    if not wanted:
        return lines
    return [line for line in lines if wanted in str(line.client_id) or wanted in (line.client_name or "").casefold()]


def _counts(head: Head) -> dict[str, int]:
    return {name: getattr(head, name) for name in _COUNTS}


@answers(router.get(""))
def calendar(reads: Reads, to: Day | None = None) -> dict[str, Any]:
    """Counts of the twelve months up to ``to``, a line for each day that has a manifest."""
    to = to or today(reads)
    first = date(to.year - 1, to.month, 1) + timedelta(days=32)
    first = first.replace(day=1)
    manifests = day_manifests(reads, first, to)
    days = sorted(manifests, reverse=True)
    found = reads.each(lambda day: counts(reads, day, manifests[day]), days, "the counts of older days")
    return {
        "first": first,
        "last": to,
        "days": [{"day": day, **(numbers or {})} for day, numbers in zip(days, found, strict=True)],
    }


@answers(router.get("/plan"))
def plan(reads: Reads, first: Day, last: Day, client: Annotated[list[int] | None, Query()] = None) -> dict[str, Any]:
    """What a backfill of these days would find: how many answers are there already, and how many are missing."""
    if not 0 <= (last - first).days < MOST_DAYS_PLANNED:
        raise HTTPException(422, f"the last day is at most {MOST_DAYS_PLANNED} days after the first, and not before it")
    if client and len(client) > MOST_CLIENTS_PLANNED:
        raise HTTPException(422, f"name at most {MOST_CLIENTS_PLANNED} clients, or none for all")
    clients = sorted(set(client or ()))
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    if not clients:
        manifests = day_manifests(reads, first, last)
        known = sorted(manifests)
        found = reads.each(lambda day: counts(reads, day, manifests[day]), known, "the counts of some days")
        there = None if None in found else sum(numbers["successful_archives"] for numbers in found if numbers)
        return {"days": len(days), "clients": None, "there": there, "without_manifest": len(days) - len(known)}

    def of_client(client: int) -> int:
        keys = {archive_key(client, day) for day in days}
        listed = reads.listed(
            reads.settings.archive_bucket, f"trigger/{client}/", after=archive_key(client, first - timedelta(days=1))
        )
        return sum(each["Key"] in keys for each in listed)

    numbers = reads.each(of_client, clients, "some clients")
    if None in numbers:
        return {"days": len(days), "clients": len(clients), "there": None, "missing": None}
    there = sum(number or 0 for number in numbers)
    return {"days": len(days), "clients": len(clients), "there": there, "missing": len(days) * len(clients) - there}


@answers(router.get("/{day}"))
def one_day(reads: Reads, day: Day, q: str = "", outcome: str = "", cursor: Cursor = 0) -> dict[str, Any]:
    """The clients of a day, those that failed first; ``q`` is an id or a part of a name."""
    wanted = q.strip().casefold()
    etag = day_manifests(reads, day, day).get(day)
    if etag is None:
        return {"day": day, "manifest": None, **page([], 0)}
    document = manifest(reads, day, etag)
    errors = {each.client_id: each.error for each in document.head.errors}
    if errors or wanted or outcome:
        lines = [line for line in matching(document.lines(), wanted) if not outcome or line.outcome == outcome]
        found = page(sorted(lines, key=lambda line: line.client_id not in errors), cursor)
    else:
        found = page(document.first_lines(cursor + ROWS), cursor, total=document.head.total_clients)
    return {
        "day": day,
        "manifest": manifest_key(day),
        "failed": sorted(errors)[:MOST_FAILED],
        "runs": [run.run_id for run in document.head.runs[-10:]],
        **_counts(document.head),
        **found,
        "rows": [{**msgspec.structs.asdict(line), "reason": errors.get(line.client_id)} for line in found["rows"]],
    }
