"""Which business day a run archives, and where everything is in the archive bucket.

::

    trigger/<clientid>/<clientid>_trigger_<yyyymmdd>.json     evidence, kept for good
    manifests/trigger/<yyyymmdd>/<run id>.json                what a run did
    manifests/trigger/<yyyymmdd>.json                         what all runs of that day did
    ledger/trigger/<number>.json                              one entry a run, chained
    runs/trigger/<yyyymmdd>/<run id>/<time>/plan.json         working files of a run, expire;
    runs/trigger/<yyyymmdd>/<run id>/<time>/outcomes/<first>.json    see include/mapped_work.py
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from urllib.parse import quote
from zoneinfo import ZoneInfo

from include.errors import RunRefusedError

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def trigger_date(
    *,
    requested: str | None,
    logical_date: datetime | None,
    triggered_at: datetime,
    now: datetime,
    zone: ZoneInfo,
    offset_days: int,
    backfill: bool = False,
) -> date:
    """The trigger date of a run (spec: archive, Trigger date).

    The first that is given decides: the param ``requested``, ``YYYY-MM-DD``; the logical date in the business zone plus
    the offset; for a manual run, which has no logical date, the day it was triggered in the business zone plus the
    offset. That day stays the same when the run is repaired later. Nothing after the day of ``now`` is archived.

    All times are aware. The zone is that of business, the offset the setting ``trigger_date_offset_days``. Each run of
    a backfill has its own day: ``requested`` would archive one day many times.

    Raises:
        RunRefusedError: a malformed date, one after today in the business zone, or one for a backfill.
    """
    if requested is not None:
        if backfill:
            raise RunRefusedError("param trigger_date in a backfill: each of its runs has its own day; leave it out")
        try:
            if not _ISO_DATE.fullmatch(requested):
                raise ValueError(requested)
            day, origin = date.fromisoformat(requested), "param trigger_date"
        except ValueError as error:
            raise RunRefusedError(
                f"param trigger_date {requested!r} is not a calendar date; write YYYY-MM-DD, such as 2026-03-08"
            ) from error
    else:
        if logical_date is None:
            moment, origin = triggered_at, "the day it was triggered"
        else:
            moment, origin = logical_date, "the logical date"
        day = moment.astimezone(zone).date() + timedelta(days=offset_days)
        if offset_days:
            origin += f" plus trigger_date_offset_days ({offset_days})"
    today = now.astimezone(zone).date()
    if day > today:
        raise RunRefusedError(
            f"trigger date {day} (from {origin}) is in the future: today is {today} in {zone.key}; "
            "choose a day that has come"
        )
    return day


EVIDENCE = "trigger/"
LEDGER = "ledger/trigger/"
MANIFESTS = "manifests/trigger/"


def archive_key(client_id: int, day: date) -> str:
    """Key of one client's archived answer (spec: archive, Store)."""
    return f"trigger/{client_id}/{client_id}_trigger_{_compact(day)}.json"


def manifest_key(day: date) -> str:
    """Key of the day's manifest (spec: archive, Summary)."""
    return f"manifests/trigger/{_compact(day)}.json"


def run_manifest_key(day: date, run_id: str) -> str:
    """Key of a run's manifest. What Airflow does not let into run ids by default, such as ``/``, is percent-encoded."""
    return f"manifests/trigger/{_of_run(day, run_id)}.json"


def ledger_key(number: int) -> str:
    """Key of an entry of the ledger (spec: archive, Proof)."""
    return f"{LEDGER}{number:08d}.json"


def plan_key(day: date, run_id: str, planned_at: datetime) -> str:
    """Key of a run's plan, made at a time in UTC; the run id as in :func:`run_manifest_key`.

    With the time: a run that was deleted and started anew has the same id, as has each backfill's run of a day, and
    must not take the outcomes of the one before for its own.
    """
    return f"runs/trigger/{_of_run(day, run_id)}/{planned_at:%Y%m%dT%H%M%S.%f}/plan.json"


def _of_run(day: date, run_id: str) -> str:
    return f"{_compact(day)}/{quote(run_id, safe=':+')}"


def _compact(day: date) -> str:
    # strftime's %Y does not pad years before 1000 on Linux.
    return day.isoformat().replace("-", "")
