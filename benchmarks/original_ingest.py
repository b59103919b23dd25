"""The baseline: a file posted as the original Lambda did it, ported as it was.

The whole file is read into memory and cut at its lines; each one is parsed, and batch after batch is written as JSON
and posted under one token. In the original's favour its connection is kept open between calls, nothing starts cold,
and the 15-minute limit of a Lambda is ignored.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import requests

from benchmarks.call_details import CallDetailsStub
from include.call_details.records import timestamp
from local.stack.description import Stack

_PER_BATCH = 500


def post_one_at_a_time(stack: Stack, stub: CallDetailsStub, key: str) -> float:
    """Post a file of the ingest bucket; returns the seconds that it took.

    Raises:
        requests.HTTPError: the API did not accept a batch.
    """
    began = time.monotonic()
    s3, http = stack.aws("s3"), requests.Session()
    http.headers["Authorization"] = f"Bearer {stub.log_in()}"
    text = s3.get_object(Bucket=stack.ingest_bucket, Key=key)["Body"].read().decode()
    records = [_record(line, number) for number, line in enumerate(filter(None, map(str.strip, text.split("\n"))), 1)]
    for start in range(0, len(records), _PER_BATCH):
        batch = records[start : start + _PER_BATCH]
        document: Any = {"records": batch, "timestamp": timestamp(datetime.now(UTC)), "batchSize": len(batch)}
        # The original sends no such key; the stub refuses a batch without one.
        http.post(stub.url, json=document, headers={"Idempotency-Key": f"loop-{start}"}, timeout=60).raise_for_status()
    return time.monotonic() - began


def _record(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return {"data": line, "lineNumber": number}
