"""Keys in the bucket of the order results.

::

    orders/<yyyy>/<mm>/<dd>/order_<order id>.json         accepted orders, written by Lambda B, kept for good
    summaries/<yyyy>/<mm>/<dd>/<run id>.json              what a run did, kept for good
    runs/<yyyy>/<mm>/<dd>/<run id>/orders.json            working files of a run, expire: its orders,
    runs/<yyyy>/<mm>/<dd>/<run id>/outcomes/<first>.json  the outcomes of one task's orders,
    runs/<yyyy>/<mm>/<dd>/<run id>/outcomes/later.json    those of orders that a later run processed,
    runs/<yyyy>/<mm>/<dd>/<run id>/alerts.json            and which alerts were delivered
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime

_ORDERS = "orders.json"


def auction_day(*, logical_date: datetime | None, run_after: datetime) -> date:
    """The UTC day of a run's keys, the same however often it is retried or cleared.

    Both times are aware; a run that somebody triggered may have no logical date.
    """
    return (logical_date or run_after).astimezone(UTC).date()


def order_id(run_id: str, index: int) -> str:
    """Id of a run's order, numbered from 0: the same for every attempt, so that Lambda B stores it once."""
    return hashlib.sha256(f"{run_id}/{index}".encode()).hexdigest()


def runs_prefix(day: date) -> str:
    """What the keys of a day's working files begin with, before the id of the run."""
    return f"runs/{_path(day)}/"


def orders_key(day: date, run_id: str) -> str:
    """Key of a run's orders."""
    return f"{runs_prefix(day)}{run_id}/{_ORDERS}"


def later_key(orders: str) -> str:
    """Key of the outcomes of orders that a later run processed, for the orders at key ``orders``."""
    return f"{orders.removesuffix(_ORDERS)}outcomes/later.json"


def alerts_key(orders: str) -> str:
    """Key of the record of delivered alerts, for the orders at key ``orders``."""
    return f"{orders.removesuffix(_ORDERS)}alerts.json"


def summary_key(day: date, run_id: str) -> str:
    """Key of a run's summary (spec: auction, Summary)."""
    return f"{summaries_prefix(day)}{run_id}.json"


def summaries_prefix(day: date) -> str:
    """What the keys of a day's summaries begin with."""
    return f"summaries/{_path(day)}/"


def _path(day: date) -> str:
    return day.isoformat().replace("-", "/")
