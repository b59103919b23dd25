"""Lambda A of the auction benchmark: no results for an auction's first call, its orders for every later one.

The shipped Lambda A answers by chance. This one makes the moment known: each call leaves an object, and the time of the
first is the moment from which there are results.
"""

from __future__ import annotations

import json
import os
from typing import Any

import boto3

BUCKET = os.environ["BUCKET"]
s3 = boto3.client("s3")


def handler(event: object, context: object) -> dict[str, Any]:
    """Answer one poll of the auction that ``auction.json`` describes."""
    auction = json.loads(s3.get_object(Bucket=BUCKET, Key="auction.json")["Body"].read())
    prefix = f"calls/{auction['name']}/"
    earlier = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["KeyCount"]
    s3.put_object(Bucket=BUCKET, Key=f"{prefix}{earlier:04d}", Body=b"")
    # The emulator waits 50 ms for a function that logs nothing.
    print(json.dumps({"earlier": earlier}))
    return {"results": True, "orders": auction["orders"]} if earlier else {"results": False}
