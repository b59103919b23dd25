"""Events: what waits for each owner and why; replay, webhooks on and off, and test events."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field

from airflow_ext.ids import EVENT_DELIVERY
from airflow_ext.operations.reading import ROWS, Reads
from airflow_ext.operations.routing import answer, changes, metadata
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
_CHANGES = changes(EVENT_DELIVERY, "operations.events")

Cursor = Annotated[str, Query(max_length=2000)]
Owner = Annotated[str, Field(min_length=1, max_length=256)]


class OneOwner(BaseModel):
    """An owner."""

    owner: Owner


class OneEvent(BaseModel):
    """An event of an owner."""

    owner: Owner
    event_id: Annotated[str, Field(min_length=1, max_length=256)]


class FailedSince(BaseModel):
    """The events of an owner that failed since then."""

    owner: Owner
    since: datetime


class Switch(BaseModel):
    """An owner's webhook, on or off."""

    owner: Owner
    active: bool


@router.get("/owners", dependencies=[metadata(EVENT_DELIVERY)])
async def owners(request: Request, cursor: Cursor = "") -> Response:
    """Owners with a webhook, 25 at a time: what waits for them, and what failed."""
    return await answer(request, lambda reads: _owners(reads, cursor))


@router.get("/owner", dependencies=[metadata(EVENT_DELIVERY)])
async def owner(request: Request, owner: str, status: Status = Status.PENDING, cursor: Cursor = "") -> Response:
    """Events of an owner and of one status, without payloads: pending the oldest first, others the newest."""
    return await answer(request, lambda reads: _owner(reads, owner, status, cursor))


@router.get("/failed", dependencies=[metadata(EVENT_DELIVERY)])
async def failed(request: Request, owner: str, since: datetime) -> Response:
    """How many events of an owner failed since then and can be replayed."""
    return await answer(request, lambda reads: _count_failed(reads, owner, since))


@router.post("/replay", dependencies=_CHANGES)
async def replay_one(request: Request, wanted: OneEvent) -> Response:
    """Make a failed event pending again."""
    return await answer(request, lambda reads: _replay_one(reads, wanted), keep=False)


@router.post("/replay-failed", dependencies=_CHANGES)
async def replay_failed(request: Request, wanted: FailedSince) -> Response:
    """Make an owner's events that failed since then pending again."""
    return await answer(
        request, lambda reads: _replay(reads, _failed(reads, wanted.owner, wanted.since)[:MOST_REPLAYED]), keep=False
    )


@router.post("/webhook", dependencies=_CHANGES)
async def webhook(request: Request, wanted: Switch) -> Response:
    """Switch an owner's webhook on or off; while it is off its events wait."""
    return await answer(request, lambda reads: _switch(reads, wanted), keep=False)


@router.post("/test", dependencies=changes(EVENT_DELIVERY, "operations.test_event"))
async def test_event(request: Request, wanted: OneOwner) -> Response:
    """Store an event that tests an owner's webhook; the next run posts it, behind what waits for this owner."""
    return await answer(request, lambda reads: _test(reads, wanted.owner), keep=False)


def _owners(reads: Reads, cursor: str) -> dict[str, Any]:
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
        "url": item.get("url", {}).get("S"),
        "reason": item.get("deactivated_reason", {}).get("S"),
    }


def _events(reads: Reads, name: str) -> OwnerEvents:
    return OwnerEvents(reads.aws("dynamodb"), reads.require(*_NEEDED).events_table, name)


def _count(events: OwnerEvents, status: Status) -> int | str:
    """How many events; as text with a ``+`` if there are more than were counted."""
    found = events.count(status, MOST_COUNTED)
    return found if found.endswith("+") else int(found.replace(",", ""))


def _owner(reads: Reads, name: str, status: Status, cursor: str) -> dict[str, Any]:
    settings = reads.require(*_NEEDED)
    after = _unpacked(cursor, _POSITION) if cursor else ""
    events = _events(reads, name)
    found, last = events.page(status, ROWS, after)
    counts = reads.each(lambda each: _count(events, each), list(Status), "some counts")
    item = reads.attempt(
        lambda: reads.aws("dynamodb").get_item(TableName=settings.subscriptions_table, Key={"owner": {"S": name}}),
        "the webhook",
    )
    return {
        "owner": name,
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


def _count_failed(reads: Reads, name: str, since: datetime) -> dict[str, Any]:
    found = len(_failed(reads, name, since))
    return {"count": min(found, MOST_REPLAYED), "more": found > MOST_REPLAYED}


def _table(reads: Reads) -> EventTable:
    return EventTable(reads.aws("dynamodb"), reads.require(*_NEEDED).events_table, sleep=outside.sleep)


def _replay_one(reads: Reads, wanted: OneEvent) -> dict[str, Any]:
    found = reads.aws("dynamodb").get_item(
        TableName=reads.require(*_NEEDED).events_table, Key={"event_id": {"S": wanted.event_id}}, ConsistentRead=True
    )
    # The table has other items, too, which have no owner.
    if found.get("Item", {}).get("owner") != {"S": wanted.owner}:
        raise HTTPException(404, f"{wanted.owner} has no event {wanted.event_id}")
    event = Event.of(found["Item"])
    if event.status is not Status.FAILED:
        raise HTTPException(409, f"the event is {event.status}: only a failed one is replayed")
    return _replay(reads, [event])


def _replay(reads: Reads, events: list[Event]) -> dict[str, Any]:
    table, now, made = _table(reads), outside.now(), 0
    for start in range(0, len(events), GROUP):
        conflicts = table.change([replay(event, now) for event in events[start : start + GROUP]])
        made += conflicts.count(None)
    return {"replayed": made, "changed_meanwhile": len(events) - made}


def _switch(reads: Reads, wanted: Switch) -> dict[str, Any]:
    settings = reads.require(*_NEEDED)
    table = Subscriptions(reads.aws("dynamodb"), settings.subscriptions_table, sleep=outside.sleep)
    if not table.switch(wanted.owner, active=wanted.active, now=outside.now()):
        raise _no_webhook(wanted.owner)
    return {"owner": wanted.owner, "active": wanted.active}


def _test(reads: Reads, name: str) -> dict[str, Any]:
    table = reads.require(*_NEEDED).subscriptions_table
    found = reads.aws("dynamodb").get_item(TableName=table, Key={"owner": {"S": name}}, ConsistentRead=True)
    if "Item" not in found:
        raise _no_webhook(name)
    if not _webhook(found["Item"])["active"]:
        raise HTTPException(409, f"the webhook of {name} is off, so the event would wait: switch it on first")
    return {"owner": name, "event_id": _table(reads).add_test(name, outside.now())}


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
