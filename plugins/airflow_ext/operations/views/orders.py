"""Orders: the auctions of a day, and each order that was not accepted."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, date, datetime
from typing import Any

from fastapi import APIRouter

from airflow_ext.ids import ENERGY_AUCTION
from airflow_ext.operations.reading import ROWS, Reads, page
from airflow_ext.operations.routing import Cursor, answers, downloads, metadata
from airflow_ext.outside import outside
from include.auction.keys import alerts_key, orders_key, summaries_prefix
from include.clients.s3 import get_json
from include.errors import InvalidInputError
from include.text import UNREADABLE

router = APIRouter(prefix="/orders", dependencies=[metadata(ENERGY_AUCTION)])

_COUNTS = ("total", "accepted", "rejected", "errored")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:\+00:00|Z)")
_CSV = ("time", "index", "order_id", "result", "reason", "run_id")


@answers(router.get(""))
def orders(reads: Reads, day: date | None = None, result: str = "", cursor: Cursor = 0) -> dict[str, Any]:
    """The runs of a UTC day, and 25 of the orders that they did not accept, the newest first."""
    day = day or datetime.fromtimestamp(outside.now(), UTC).date()
    reads.most_calls -= ROWS
    runs, rows = _read(reads, day)
    reads.most_calls += ROWS
    found = page([row for row in rows if result in ("", row["result"])], cursor)
    ids = list(dict.fromkeys(row["run_id"] for row in found["rows"]))
    alerts = dict(zip(ids, reads.each(lambda run: _alerted(reads, day, run), ids, "where was alerted"), strict=True))
    for row in found["rows"]:
        row["alerted"] = (alerts[row["run_id"]] or {}).get(f"{row['order_id']}/{row['result']}", [])
    return {"day": day, "runs": runs, **found}


def _read(reads: Reads, day: date) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The day's runs, and the orders that they did not accept; the newest first."""
    bucket = reads.settings.order_results_bucket
    # Somebody may have made a folder there.
    listed = [each for each in reads.listed(bucket, summaries_prefix(day), pages=2) if each["Key"].endswith(".json")]
    listed.sort(key=lambda each: each["LastModified"], reverse=True)

    def summary(each: dict[str, Any]) -> dict[str, Any]:
        return reads.object("summary", each["Key"], each["ETag"], lambda: _summary(reads, bucket, each))

    found = reads.each(summary, listed, "the older runs of the day")
    rows = [row for each in found if each for row in each["rows"]]
    names = ("run_id", "time", "reason", *_COUNTS)
    runs = [
        {name: each[name] for name in names} if each else {"time": unread["LastModified"].isoformat()}
        for each, unread in zip(found, listed, strict=True)
    ]
    return runs, [dict(row) for row in rows]


def _summary(reads: Reads, bucket: str, listed: dict[str, Any]) -> dict[str, Any]:
    try:
        document = dict(get_json(reads.aws("s3"), bucket, listed["Key"]) or {})
        run_id = str(document.get("run_id"))
        match = _TIME.search(run_id)
        time = match[0] if match else listed["LastModified"].isoformat()
        rows = [{**row, "run_id": run_id, "time": time} for row in document.get("not_accepted", ())]
        counts = {name: document.get(name, 0) for name in _COUNTS}
        return {"run_id": run_id, "time": time, "reason": document.get("reason"), "rows": rows, **counts}
    except UNREADABLE:
        raise InvalidInputError(f"s3://{bucket}/{listed['Key']} is no summary of a run") from None


def _alerted(reads: Reads, day: date, run_id: str) -> dict[str, list[str]]:
    """Channels that took an alert, by its name; nothing once the run's working files have expired."""
    key = alerts_key(orders_key(day, run_id))
    found: dict[str, list[str]] = (get_json(reads.aws("s3"), reads.settings.order_results_bucket, key) or {}).get(
        "delivered", {}
    )
    return found


@downloads(router.get("/csv"))
def orders_csv(reads: Reads, day: date) -> tuple[bytes, str]:
    """All orders of a day that were not accepted, as a table for a spreadsheet."""
    _, rows = _read(reads, day)
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV, extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: _cell(row.get(name)) for name in _CSV} for row in rows)
    return text.getvalue().encode("utf-8", "replace"), f"orders_{day}.csv"


def _cell(value: Any) -> Any:
    # A spreadsheet takes a text that begins so for a formula, and reasons are written by others.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
