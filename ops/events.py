"""The events of one owner: what waits, what failed and why, and the webhook they go to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ops.environment import Environment, aws_errors
from ops.report import Report, age, moment

MOST_COUNTED = 1_000
"""Counting an index reads it; beyond this many, "1,000+" tells enough."""

_SHOWN = 10
_STATUSES = ("pending", "failed", "delivered", "acknowledged")


def owner(environment: Environment, name: str) -> Report:
    """Counts by status, the oldest pending events and the newest failed ones, each with its last error."""
    dynamodb, table = environment.aws("dynamodb"), environment.output("EventsTableName")
    with aws_errors("DynamoDB"):
        counts = {status: _count(dynamodb, table, name, status) for status in _STATUSES}
        pending = _events(dynamodb, table, name, "pending", newest_first=False)
        failed = _events(dynamodb, table, name, "failed", newest_first=True)
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
    reason = item.get("reason", {}).get("S")
    return f"Webhook {item['url']['S']}: {'on' if active else 'off'}" + (f" ({reason})" if reason else "")


def _query(table: str, name: str, status: str) -> dict[str, Any]:
    return {
        "TableName": table,
        "IndexName": "by-owner-status",
        "KeyConditionExpression": "owner_status = :lane",
        "ExpressionAttributeValues": {":lane": {"S": f"{name}#{status}"}},
    }


def _count(dynamodb: Any, table: str, name: str, status: str) -> str:
    pages = dynamodb.get_paginator("query").paginate(
        **_query(table, name, status), Select="COUNT", PaginationConfig={"MaxItems": MOST_COUNTED + 1}
    )
    total = 0
    for page in pages:
        total += page["Count"]
        if total > MOST_COUNTED:
            return f"{MOST_COUNTED:,}+"
    return f"{total:,}"


def _events(dynamodb: Any, table: str, name: str, status: str, *, newest_first: bool) -> list[dict[str, Any]]:
    found = dynamodb.query(**_query(table, name, status), ScanIndexForward=not newest_first, Limit=_SHOWN)["Items"]
    return [_row(item) for item in found]


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
