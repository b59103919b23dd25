"""A month of days in the archive, for a look at the operations page (``make up SAMPLE=month``).

Written by the pipelines' own code, as their runs would have: evidence, manifests, ledger; with failures, an answer that
changed, empty ones, a client that joined late and a day without a run.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, cast

from botocore import xform_name

from include.archive.ledger import Ledger
from include.archive.manifests import Manifests
from include.archive.models import Client, ClientOutcome, Manifest, Plan, Result, read_response
from include.archive.store import ArchiveStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.clients.signed import SignedClient

_WITHOUT_RUN = 9
_ALL_FAIL = 17
"""Days before the last one."""


class _Awaited:
    """A boto3 client that is called as the archive's store calls its own."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    async def call(self, operation: str, **request: Any) -> Any:
        return getattr(self._s3, xform_name(operation))(**request)


def fill_archive(s3: Any, bucket: str, clients: Sequence[tuple[int, str]], last: date, days: int) -> None:
    """Archive these days.

    Args:
        s3: a boto3 client.
        bucket: the archive bucket.
        clients: ids and names.
        last: the last day.
        days: how many, that one included.
    """
    store = ArchiveStore(cast("SignedClient", _Awaited(s3)), bucket)
    manifests, ledger = Manifests(s3, bucket), Ledger(s3, bucket)
    chance = random.Random(1)
    for back in range(days - 1, -1, -1):
        if back == _WITHOUT_RUN:
            continue
        day = last - timedelta(days=back)
        chosen = [Client(*client) for client in clients[: -1 if back > days // 2 else None]]
        run = f"scheduled__{day.isoformat()}T00:30:00+00:00"
        outcomes = [_outcome(store, client.id, day, chance, failing=back == _ALL_FAIL) for client in chosen]
        _finish(manifests, ledger, day, run, chosen, outcomes)
        if back % 11 == 3:
            again = chosen[:2]
            run = f"manual__{day.isoformat()}T09:12:00+00:00"
            body = read_response(json.dumps({"triggers": [{"id": 1, "mw": 4.5}], "revised": True}).encode())
            outcomes = [asyncio.run(store.save(client.id, day, body, force=False)) for client in again]
            _finish(manifests, ledger, day, run, again, outcomes)


def _outcome(store: ArchiveStore, client: int, day: date, chance: random.Random, *, failing: bool) -> ClientOutcome:
    if failing or chance.random() < 0.03:
        reason = chance.choice(["DEX API answered 503", "DEX API answered 403: the client's credentials are refused"])
        return ClientOutcome(client, Result.FAILED, error=reason, retryable="503" in reason)
    if chance.random() < 0.04:
        return asyncio.run(store.save(client, day, read_response(b"[]"), force=False))
    triggers = [
        {
            "id": hashlib.sha256(f"{client}{day}{number}".encode()).hexdigest()[:12],
            "zone": chance.choice(["NYISO.J", "NYISO.K", "ISONE.CT", "PJM.PSEG"]),
            "from": f"{day}T{13 + number:02d}:00:00-05:00",
            "mw": round(chance.uniform(0.5, 12), 3),
        }
        for number in range(chance.randint(1, 8))
    ]
    body = json.dumps({"clientId": client, "triggerDate": day.isoformat(), "triggers": triggers}).encode()
    return asyncio.run(store.save(client, day, read_response(body), force=False))


def _finish(
    manifests: Manifests, ledger: Ledger, day: date, run: str, clients: list[Client], outcomes: list[ClientOutcome]
) -> None:
    plan = Plan(run, 0, day, force=False, concurrency=1, base_url="", clients=tuple(clients), slices=())
    document = Manifest(plan, tuple(outcomes)).to_document()
    saved = manifests.save_run(day, run, document)
    ledger.append(run, day.isoformat(), saved)
    manifests.merge_day(day, document, saved)
