"""The events of one owner: what waits, what failed and why, and the webhook they go to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from include.delivery.listing import OwnerEvents
from include.delivery.models import Status
from ops.environment import Environment, aws_errors
from ops.report import Report, age, moment

MOST_COUNTED = 1_000
"""Counting an index reads it; beyond this many, "1,000+" tells enough."""

_SHOWN = 10
_STATUSES = (Status.PENDING, Status.FAILED, Status.DELIVERED, Status.ACKNOWLEDGED)


def owner(environment: Environment, name: str) -> Report:
    """Counts by status, the oldest pending events and the newest failed ones, each with its last error."""
    dynamodb, table = environment.aws("dynamodb"), environment.output("EventsTableName")
    with aws_errors("DynamoDB"):
        events = OwnerEvents(dynamodb, table, name)
        counts = {status: events.count(status, MOST_COUNTED) for status in _STATUSES}
        pending = [_row(item) for item in events.page(Status.PENDING, _SHOWN)[0]]
        failed = [_row(item) for item in events.page(Status.FAILED, _SHOWN)[0]]
        webhook = dynamodb.get_item(
            TableName=environment.output("SubscriptionsTableName"), Key={"owner": {"S": name}}
        ).get("Item")
    columns = {
        "event_id": "event",
        "status": "status",
        "event_type": "type",
        "created_at": "created",
        "attempts": "attempts",
        "next_attempt_at": "next attempt",
        "last_error": "last error",
    }
    rows = [*pending, *failed]
    notes = [
        ", ".join(f"{count} {status}" for status, count in counts.items()),
        _webhook(webhook),
    ]
    oldest = moment(pending[0]["created_at"]) if pending else None
    if oldest:
        notes.append(f"The oldest pending event has waited for {age(oldest, datetime.now(UTC))}.")
    return Report(f"events of {name} in {environment.name}", columns, rows, notes)


def _webhook(item: dict[str, Any] | None) -> str:
    if item is None:
        return "No webhook: events wait in the inbox. To set one: docs/RUNBOOK.md, Webhooks."
    active = item.get("active", {}).get("BOOL", False)
    reason = item.get("deactivated_reason", {}).get("S")
    url = item.get("url", {}).get("S", "without a URL")
    return f"Webhook {url}: {'on' if active else 'off'}" + (f" ({reason})" if reason else "")


def _row(item: dict[str, Any]) -> dict[str, Any]:
    def text(attribute: str) -> str | None:
        value: dict[str, str] = item.get(attribute, {})
        return value.get("S") or value.get("N")

    return {
        "event_id": text("event_id"),
        "status": text("status"),
        "event_type": text("event_type"),
        "created_at": text("created_at"),
        "attempts": int(text("delivery_attempts") or 0),
        "next_attempt_at": text("next_attempt_at"),
        "last_status": text("last_status"),
        "last_error": text("last_error"),
    }
