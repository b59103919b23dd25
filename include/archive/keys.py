"""Where everything lies in the archive bucket.

::

    trigger/<clientid>/<clientid>_trigger_<yyyymmdd>.json     evidence, kept for good
    manifests/trigger/<yyyymmdd>/<run id>.json                what a run did
    manifests/trigger/<yyyymmdd>.json                         what all runs of that day did
    ledger/trigger/<number>.json                              one entry a run, chained
    runs/trigger/<yyyymmdd>/<run id>/plan.json                working papers of a run, expire;
    runs/trigger/<yyyymmdd>/<run id>/outcomes/<first>.json    see include/mapped_work.py
"""

from __future__ import annotations

from datetime import date
from urllib.parse import quote

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
    """Key of a run's manifest. The run id is percent-encoded: it holds ``:`` and ``+``, and may hold ``/``."""
    return f"manifests/trigger/{_compact(day)}/{quote(run_id, safe='')}.json"


def ledger_key(number: int) -> str:
    """Key of an entry of the ledger (spec: archive, Proof)."""
    return f"{LEDGER}{number:08d}.json"


def plan_key(day: date, run_id: str) -> str:
    """Key of a run's plan; the run id as in :func:`run_manifest_key`."""
    return f"runs/trigger/{_compact(day)}/{quote(run_id, safe='')}/plan.json"


def _compact(day: date) -> str:
    # strftime's %Y does not pad years before 1000 on Linux.
    return day.isoformat().replace("-", "")
