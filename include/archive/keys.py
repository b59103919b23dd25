"""Where everything lies in the archive bucket.

::

    trigger/<clientid>/<clientid>_trigger_<yyyymmdd>.json     evidence, kept for good
    manifests/trigger/<yyyymmdd>.json                         what the last run of that day did
    runs/trigger/<yyyymmdd>/<run id>/plan.json                working papers of a run, expire;
    runs/trigger/<yyyymmdd>/<run id>/outcomes/<first>.json    see include/mapped_work.py
"""

from __future__ import annotations

from datetime import date
from urllib.parse import quote


def archive_key(client_id: int, day: date) -> str:
    """Key of one client's archived answer (spec: archive, Store)."""
    return f"trigger/{client_id}/{client_id}_trigger_{_compact(day)}.json"


def manifest_key(day: date) -> str:
    """Key of the day's manifest (spec: archive, Summary)."""
    return f"manifests/trigger/{_compact(day)}.json"


def plan_key(day: date, run_id: str) -> str:
    """Key of a run's plan. The run id is percent-encoded: it holds ``:`` and ``+``, and may hold ``/``."""
    return f"runs/trigger/{_compact(day)}/{quote(run_id, safe='')}/plan.json"


def _compact(day: date) -> str:
    # strftime's %Y does not pad years before 1000 on Linux.
    return day.isoformat().replace("-", "")
