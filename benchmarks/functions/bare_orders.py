"""The baseline of the orders API: the same write as boto3's documentation shows it, and nothing else.

No routing, no checks, no retry of what DynamoDB leaves over beyond the batch writer's own, no logs, no metrics.
"""

from __future__ import annotations

import json
import os
import time
from decimal import Decimal
from typing import Any

import boto3

TABLE = boto3.resource("dynamodb").Table(os.environ["ORDERS_TABLE"])


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Store the records of the body for a day."""
    records = json.loads(event["body"], parse_float=Decimal)
    expires = int(time.time()) + 86_400
    with TABLE.batch_writer() as batch:
        for record in records:
            batch.put_item(Item={**record, "ttl": expires})
    return {"statusCode": 201, "body": json.dumps({"stored": len(records), "expires_at": expires})}
