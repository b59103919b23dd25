"""The orders API's part of the demo: called as another team would call it."""

from __future__ import annotations

import json
from datetime import datetime

import httpx
import jwt

from local.demo.part import Part, run_tool, shown
from local.stack.description import Stack

EXPLANATION = (
    "The records are in DynamoDB exactly as they were sent, and expire after a day. Nobody gets in without a token "
    "that was signed with the stack's own secret, and of a body with one broken record nothing is stored."
)
RECORDS = (
    '[{"record_id": "demo-1", "parameter_1": "example", "parameter_2": 2.1}, '
    '{"record_id": "demo-2", "parameter_1": "żółw <&>", "parameter_2": 12345678901234567890.0000000001}]'
)
"""Sent as this text: a float of Python would not hold the second number."""

BROKEN = (
    '[{"record_id": "demo-3", "parameter_1": "sound", "parameter_2": 1}, '
    '{"record_id": "demo-4", "parameter_1": "broken", "parameter_2": "2.1"}]'
)


def run_orders_api(stack: Stack, part: Part) -> None:
    """Post records with a token of the token tool, without one, with a forged one, and broken records."""
    token = run_tool(stack, "issue_token", "--subject", "demo", "--ttl", "5m")
    claims = jwt.decode(token, options={"verify_signature": False})
    forged = jwt.encode(claims, "a secret of somebody else, as long as need be", algorithm="HS256")
    with httpx.Client(timeout=30) as http:
        accepted, without, with_forged, refused = (
            http.post(
                f"{stack.orders_api_url}/orders",
                content=body,
                headers={"Authorization": f"Bearer {sent}"} if sent else {},
            )
            for body, sent in ((RECORDS, token), (RECORDS, None), (RECORDS, forged), (BROKEN, token))
        )
    items = {
        name: stack.aws("dynamodb")
        .get_item(TableName=stack.orders_table, Key={"record_id": {"S": name}}, ConsistentRead=True)
        .get("Item")
        for name in ("demo-1", "demo-2", "demo-3", "demo-4")
    }
    expiry = str(int(datetime.fromisoformat(accepted.json()["expires_at"]).timestamp()))
    part.what = f"POST {stack.orders_api_url}/orders"
    part.result = f"2 records stored until {accepted.json()['expires_at']}; 3 requests refused, as meant"
    part.written = [f"dynamodb:{stack.orders_table}/{name}" for name, item in items.items() if item]
    part.exhibits = {
        "the response to two records": shown(accepted),
        "the response to a broken record": shown(refused),
        "demo-2, read back from DynamoDB": json.dumps(items["demo-2"], indent=2, ensure_ascii=False),
    }
    part.checks = {
        "with a token: 201 and two records": (accepted.status_code, accepted.json()["stored"]) == (201, 2),
        "both read back with every digit of their numbers, and with the expiry that the response gave": [
            items["demo-1"],
            items["demo-2"],
        ]
        == [
            {"record_id": {"S": name}, "parameter_1": {"S": text}, "parameter_2": {"N": number}, "ttl": {"N": expiry}}
            for name, text, number in (
                ("demo-1", "example", "2.1"),
                ("demo-2", "żółw <&>", "12345678901234567890.0000000001"),
            )
        ],
        "without a token: 401": without.status_code == 401,
        "with a forged token: 403": with_forged.status_code == 403,
        "a number sent as text: 422 that names the record's index and the field, and neither record is stored": (
            refused.status_code == 422
        )
        and [(each["index"], each["field"]) for each in refused.json()["error"]["details"]] == [(1, "parameter_2")]
        and not (items["demo-3"] or items["demo-4"]),
    }
