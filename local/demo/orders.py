"""The orders API's part of the demo: called as another team would call it."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from typing import Any

import httpx
import jwt

from local.demo.report import Exhibit, Report, Tell, json_of, run_tool, shown
from local.stack.description import Stack

RECORDS = (
    '[{"record_id": "demo-1", "parameter_1": "example", "parameter_2": 2.1}, '
    '{"record_id": "demo-2", "parameter_1": "żółw <&>", "parameter_2": 12345678901234567890.0000000001}]'
)
"""Sent as this text: a float of Python would not hold the second number."""

BROKEN = (
    '[{"record_id": "demo-3", "parameter_1": "sound", "parameter_2": 1}, '
    '{"record_id": "demo-4", "parameter_1": "broken", "parameter_2": "2.1"}]'
)

STORED = {
    "demo-1": {"parameter_1": {"S": "example"}, "parameter_2": {"N": "2.1"}},
    "demo-2": {"parameter_1": {"S": "żółw <&>"}, "parameter_2": {"N": "12345678901234567890.0000000001"}},
}
"""By record id: what DynamoDB is to hold beside id and expiry."""

_LIFETIME = timedelta(days=1)
_STEPS = 5


def run_orders_api(stack: Stack, tell: Tell) -> Report:
    """Post records with a token of the token tool, without one, with a forged one, and broken records."""
    started = time.monotonic()
    tell(0, _STEPS)
    token = issue_token(stack)
    claims = jwt.decode(token, options={"verify_signature": False})
    forged = jwt.encode(claims, "a secret of somebody else, as long as need be", algorithm="HS256")
    calls: dict[str, tuple[str, str | None]] = {
        "two records": (RECORDS, token),
        "no token": (RECORDS, None),
        "a forged token": (RECORDS, forged),
        "a number sent as text": (BROKEN, token),
    }
    answers: dict[str, httpx.Response] = {}
    with httpx.Client(timeout=30) as http:
        for done, (name, (body, sent)) in enumerate(calls.items(), start=1):
            tell(done, _STEPS)
            headers = {"Authorization": f"Bearer {sent}"} if sent else {}
            answers[name] = http.post(f"{stack.orders_api_url}/orders", content=body, headers=headers)
    tell(_STEPS, _STEPS)
    return _report(stack, answers, time.monotonic() - started)


def issue_token(stack: Stack) -> str:
    """A token as a person gets it: from the command line.

    Raises:
        StackError: the tool failed; the message is the tool's own.
    """
    return run_tool(stack, "issue_token", "--subject", "demo", "--ttl", "5m")


def _report(stack: Stack, answers: dict[str, httpx.Response], seconds: float) -> Report:
    items = {name: _item(stack, name) for name in ("demo-1", "demo-2", "demo-3", "demo-4")}
    written = [f"dynamodb:{stack.orders_table}/{name}" for name, item in items.items() if item]
    accepted = answers["two records"]
    report = Report(
        "orders API",
        f"POST {stack.orders_api_url}/orders",
        ", ".join(str(answer.status_code) for answer in answers.values()),
        seconds,
        f"{len(written)} records stored until {json_of(accepted).get('expires_at')}",
        written,
        [
            *(Exhibit(f"the answer to {name}", shown(answer)) for name, answer in answers.items()),
            Exhibit("demo-2, read back from DynamoDB", json.dumps(items["demo-2"], indent=2, ensure_ascii=False)),
        ],
        "The records lie in DynamoDB exactly as they were sent, and expire after a day. Nobody gets in without a token "
        "that was signed with the stack's own secret, and of a body with one broken record nothing is stored.",
    )
    report.check("with a token: 201 and two records", accepted.status_code == 201 and json_of(accepted)["stored"] == 2)
    report.check(
        "both read back with every digit of their numbers, and with the expiry that the answer gave",
        all(_is_kept(items[name], name, json_of(accepted)) for name in STORED),
    )
    report.check("without a token: 401", answers["no token"].status_code == 401)
    report.check("with a forged token: 403", answers["a forged token"].status_code == 403)
    refused = answers["a number sent as text"]
    details = (json_of(refused).get("error") or {}).get("details") or []
    report.check(
        "a number sent as text: 422 that names the record's index and the field, and neither record is stored",
        refused.status_code == 422
        and [(detail["index"], detail["field"]) for detail in details] == [(1, "parameter_2")]
        and not (items["demo-3"] or items["demo-4"]),
    )
    return report


def _is_kept(item: dict[str, Any], record_id: str, answer: dict[str, Any]) -> bool:
    """Whether an item has what was sent, and an expiry a day ahead, which is the one that the answer gave."""
    if "expires_at" not in answer:
        return False
    expires_at = datetime.fromisoformat(answer["expires_at"])
    left = expires_at - datetime.now(expires_at.tzinfo)
    expected = {"record_id": {"S": record_id}, "ttl": {"N": str(int(expires_at.timestamp()))}, **STORED[record_id]}
    return item == expected and _LIFETIME - timedelta(minutes=5) < left <= _LIFETIME


def _item(stack: Stack, record_id: str) -> dict[str, Any]:
    key = {"record_id": {"S": record_id}}
    answer = stack.aws("dynamodb").get_item(TableName=stack.orders_table, Key=key, ConsistentRead=True)
    item: dict[str, Any] = answer.get("Item", {})
    return item
