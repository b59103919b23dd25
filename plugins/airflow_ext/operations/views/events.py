"""Events: what waits for each owner and why; replay, webhooks on and off, and test events."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Body, HTTPException, Query

from airflow_ext.ids import EVENT_DELIVERY
from airflow_ext.operations.reading import ROWS, Reads
from airflow_ext.operations.routing import answers, changes, metadata
from airflow_ext.outside import outside
from include.delivery.event_table import GROUP, EventTable
from include.delivery.listing import OwnerEvents
from include.delivery.models import Event, Status, replay
from include.delivery.subscriptions import Subscriptions

router = APIRouter(prefix="/events")

MOST_COUNTED = 1_000
"""Counting an index reads it; beyond this many, "1,000+" tells enough."""
MOST_REPLAYED = 1_000
"""Events that one click makes pending again."""

_OWNER = re.compile(r".{1,256}", re.DOTALL)
_POSITION = re.compile(r"[0-9][^#]*#.+")
_NEEDED = ("events_table", "subscriptions_table")
_METADATA = [metadata(EVENT_DELIVERY)]
_CHANGES = changes(EVENT_DELIVERY, "operations.events")

Cursor = Annotated[str, Query(max_length=2000)]
Name = Annotated[str, Body(embed=True, min_length=1, max_length=256)]
"""Of the owner or event that a request changes."""


@answers(router.get("/owners", dependencies=_METADATA))
def owners(reads: Reads, cursor: Cursor = "") -> dict[str, Any]:
    """Owners with a webhook, 25 at a time: what waits for them, and what failed."""
    settings = reads.require(*_NEEDED)
    start = {"ExclusiveStartKey": {"owner": {"S": _unpacked(cursor, _OWNER)}}} if cursor else {}
    found = reads.aws("dynamodb").scan(TableName=settings.subscriptions_table, Limit=ROWS, **start)
    rows = reads.each(lambda item: _state(reads, item), found["Items"], "some owners")
    last = found.get("LastEvaluatedKey")
    return {"rows": [row for row in rows if row], "next": _packed(last["owner"]["S"]) if last else None}


def _state(reads: Reads, item: dict[str, Any]) -> dict[str, Any]:
    name = item["owner"]["S"]
    events = _events(reads, name)
    oldest = next(iter(events.page(Status.PENDING, 1)[0]), None)
    failed = _count(events, Status.FAILED)
    told = oldest if oldest and "last_error" in oldest else {}
    if failed and not told:
        told = next(iter(events.page(Status.FAILED, 1)[0]), {})
    last = _row(told)
    return {
        **_webhook(item),
        "owner": name,
        "pending": _count(events, Status.PENDING) if oldest else 0,
        "failed": failed,
        "oldest": _row(oldest) if oldest else None,
        "last_status": last["last_status"],
        "last_error": last["last_error"],
    }


def _webhook(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "active": item.get("active", {}).get("BOOL", False),
        "url": _host(item.get("url", {}).get("S")),
        "reason": item.get("deactivated_reason", {}).get("S"),
    }


def _host(url: str | None) -> str | None:
    """A webhook without its path: that is all many receivers check, and people see this who may see no body."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return None
    host = parts.netloc.rpartition("@")[2]
    return host and f"{parts.scheme}://{host}{'/…' if len(parts.path) > 1 or parts.query else ''}"


def _events(reads: Reads, name: str) -> OwnerEvents:
    return OwnerEvents(reads.aws("dynamodb"), reads.require(*_NEEDED).events_table, name)


def _count(events: OwnerEvents, status: Status) -> int | str:
    """How many events; as text with a ``+`` if there are more than were counted."""
    found = events.count(status, MOST_COUNTED)
    return found if found.endswith("+") else int(found.replace(",", ""))


@answers(router.get("/owner", dependencies=_METADATA))
def one_owner(reads: Reads, owner: str, status: Status = Status.PENDING, cursor: Cursor = "") -> dict[str, Any]:
    """Events of an owner and of one status, without payloads: pending the oldest first, others the newest."""
    settings = reads.require(*_NEEDED)
    after = _unpacked(cursor, _POSITION) if cursor else ""
    events = _events(reads, owner)
    found, last = events.page(status, ROWS, after)
    counts = reads.each(lambda each: _count(events, each), list(Status), "some counts")
    item = reads.attempt(
        lambda: reads.aws("dynamodb").get_item(TableName=settings.subscriptions_table, Key={"owner": {"S": owner}}),
        "the webhook",
    )
    return {
        "owner": owner,
        "webhook": _webhook(item["Item"]) if item and "Item" in item else None,
        "counts": {each.value: number for each, number in zip(Status, counts, strict=True)},
        "rows": [_row(each) for each in found],
        "next": _packed(last) if last else None,
    }


def _row(item: dict[str, Any]) -> dict[str, Any]:
    def text(name: str) -> str | None:
        value: dict[str, str] = item.get(name, {})
        return value.get("S") or value.get("N")

    return {
        **{name: text(name) for name in ("event_id", "status", "event_type", "created_at", "next_attempt_at")},
        **{name: text(name) for name in ("last_status", "last_error", "failed_at", "delivered_at")},
        "delivery_attempts": int(text("delivery_attempts") or 0),
        "attempts": json.loads(text("attempts") or "[]"),
    }


def _failed(reads: Reads, name: str, since: datetime) -> list[Event]:
    try:
        seconds = since.astimezone(UTC).timestamp() if since.tzinfo else None
    except OverflowError:
        seconds = None
    if seconds is None:
        raise HTTPException(422, "give the time with its zone, such as 2026-03-08T06:00:00Z")
    return _table(reads).failed(name, seconds)


@answers(router.get("/failed", dependencies=_METADATA))
def count_failed(reads: Reads, owner: str, since: datetime) -> dict[str, Any]:
    """How many events of an owner failed since then and can be replayed."""
    found = len(_failed(reads, owner, since))
    return {"count": min(found, MOST_REPLAYED), "more": found > MOST_REPLAYED}


def _table(reads: Reads) -> EventTable:
    return EventTable(reads.aws("dynamodb"), reads.require(*_NEEDED).events_table, sleep=outside.sleep)


@answers(router.post("/replay", dependencies=_CHANGES), keep=False)
def replay_one(reads: Reads, owner: Name, event_id: Name) -> dict[str, Any]:
    """Make a failed event pending again."""
    found = reads.aws("dynamodb").get_item(
        TableName=reads.require(*_NEEDED).events_table, Key={"event_id": {"S": event_id}}, ConsistentRead=True
    )
    # The table has other items, too, which have no owner.
    if found.get("Item", {}).get("owner") != {"S": owner}:
        raise HTTPException(404, f"{owner} has no event {event_id}")
    event = Event.of(found["Item"])
    if event.status is not Status.FAILED:
        raise HTTPException(409, f"the event is {event.status}: only a failed one is replayed")
    return _replay(reads, [event])


@answers(router.post("/replay-failed", dependencies=_CHANGES), keep=False)
def replay_failed(reads: Reads, owner: Name, since: Annotated[datetime, Body()]) -> dict[str, Any]:
    """Make an owner's events that failed since then pending again."""
    return _replay(reads, _failed(reads, owner, since)[:MOST_REPLAYED])


def _replay(reads: Reads, events: list[Event]) -> dict[str, Any]:
    table, now, tried, made = _table(reads), outside.now(), 0, 0
    for start in range(0, len(events), GROUP):
        some = [replay(event, now) for event in events[start : start + GROUP]]
        conflicts = reads.attempt(partial(table.change, some), "the rest of the events; count again")
        if conflicts is None:
            break
        tried, made = tried + len(some), made + conflicts.count(None)
    return {"replayed": made, "changed_meanwhile": tried - made}


@answers(router.post("/webhook", dependencies=_CHANGES), keep=False)
def switch(reads: Reads, owner: Name, active: Annotated[bool, Body()]) -> dict[str, Any]:
    """Switch an owner's webhook on or off; while it is off its events wait."""
    settings = reads.require(*_NEEDED)
    table = Subscriptions(reads.aws("dynamodb"), settings.subscriptions_table, sleep=outside.sleep)
    if not table.switch(owner, active=active, now=outside.now()):
        raise _no_webhook(owner)
    return {"owner": owner, "active": active}


@answers(router.post("/test", dependencies=changes(EVENT_DELIVERY, "operations.test_event")), keep=False)
def send_test(reads: Reads, owner: Name) -> dict[str, Any]:
    """Store an event that tests an owner's webhook; the next run posts it, behind what waits for this owner."""
    table = reads.require(*_NEEDED).subscriptions_table
    found = reads.aws("dynamodb").get_item(TableName=table, Key={"owner": {"S": owner}}, ConsistentRead=True)
    if "Item" not in found:
        raise _no_webhook(owner)
    if not _webhook(found["Item"])["active"]:
        raise HTTPException(409, f"the webhook of {owner} is off, so the event would wait: switch it on first")
    return {"owner": owner, "event_id": _table(reads).add_test(owner, outside.now())}


def _no_webhook(name: str) -> HTTPException:
    return HTTPException(404, f"{name} has no webhook: the runbook says how to set one")


def _packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def _unpacked(cursor: str, form: re.Pattern[str]) -> str:
    """The text behind which a list goes on, if it has the form of that list's."""
    try:
        text = base64.urlsafe_b64decode(cursor).decode()
    except ValueError:
        text = ""
    if not form.fullmatch(text):
        raise HTTPException(422, "the cursor is none of this list: begin without one")
    return text
