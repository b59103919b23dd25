"""The task of ``call_details_replay``: Airflow's context on one side, :mod:`include.call_details` on the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Any

from airflow.sdk import Context

from airflow_ext.hooks.call_details import CallDetailsClients
from airflow_ext.metrics import RunReport
from airflow_ext.notifications.failure_callback import record_failure
from include.alerts import Section
from include.call_details.alerts import replay_alert
from include.call_details.dead_letters import Replay, ReplayResult
from include.call_details.models import TASKS_AT_ONCE
from include.clients.dynamodb import Item
from include.errors import RunRefusedError, WorkFailedError

_TRIES = "replays"
"""Partition of how many messages were accepted by the tries of replays that have not come to their end."""

log = logging.getLogger(__name__)


def replay(context: Context) -> dict[str, Any]:
    """Post dead letters again, and delete the messages of those that are accepted.

    Returns how many ended in which way; that is in XCom also when some stay in the queue, a WorkFailedError.
    """
    params = context["params"]
    with record_failure(context["ti"]):
        clients = CallDetailsClients()
        # The trigger form sends each line, also the last one, which is empty.
        chosen = [stripped for name in params["dead_letters"] or () if (stripped := name.strip())]
        if params["dead_letters"] is not None and not chosen:
            raise RunRefusedError("param dead_letters names none; leave it out to post all of them")
        run_id = context["dag_run"].run_id
        noted = clients.table.get(_TRIES, run_id)
        result = asyncio.run(_replay(clients, noted, params["limit"], chosen, dry_run=params["dry_run"]))
        left = result.failed + result.unreadable
        report = RunReport(context, clients.settings)
        report.count({"ReplayedBatches": result.accepted, "RefusedBatches": left}, failed=left > 0)
        if left:
            report.alert(replay_alert(result, report.run))
        report.note(
            f"{'Dry run: ' if params['dry_run'] else ''}{result.accepted:,} of {result.received:,} dead letters posted",
            section=Section.CALL_DETAILS_DEAD_LETTERS if left else None,
            refused_again=result.failed,
            unreadable=result.unreadable,
            not_in_the_queue=result.not_found or None,
        )
        summary = report.push({**asdict(result), "dry_run": params["dry_run"]})
        # Not earlier: a try that dies before it has reported leaves that to the next one.
        clients.table.delete(clients.table.get(_TRIES, run_id))
        if left:
            raise WorkFailedError(f"{left} of {result.received} dead letters stay in the queue")
        log.info("%d messages received, %d batches accepted", result.received, result.accepted)
        return summary


async def _replay(
    clients: CallDetailsClients, noted: Item, limit: int, chosen: Collection[str], *, dry_run: bool
) -> ReplayResult:
    """What became of the run's messages, those of its earlier tries included, which count towards the limit."""
    open_api = clients.api_opener()
    before = int(noted.content["accepted"]) if noted.version else 0

    def note(accepted: int) -> None:
        nonlocal noted
        noted = clients.table.replace(noted, {"accepted": before + accepted}) or noted

    # No more than one task of an ingest run, so that files which arrive meanwhile have their share.
    share = -(-clients.settings.max_concurrent_calls // TASKS_AT_ONCE)
    async with clients.limiter.hold(share) as permits, open_api(permits.permit) as api:
        one_try = Replay(clients.dead_letters, api, workers=share, note=note)
        result = await one_try.run(limit - before, chosen=chosen, dry_run=dry_run)
    # What an earlier try has posted is not in the queue any more.
    gone = max(result.not_found - before, 0)
    return replace(result, received=result.received + before, accepted=result.accepted + before, not_found=gone)
