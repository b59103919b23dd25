"""The task of ``call_details_replay``: Airflow's context on one side, :mod:`include.call_details` on the other."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_ext.hooks.call_details import CallDetailsClients
from airflow_ext.metrics import RunReport
from airflow_ext.notifications.failure_callback import record_failure
from include.alerts import Section
from include.call_details.alerts import replay_alert
from include.call_details.dead_letters import Replay
from include.call_details.models import TASKS_AT_ONCE
from include.errors import WorkFailedError

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow.sdk import Context

    from include.call_details.dead_letters import ReplayResult

log = logging.getLogger(__name__)


def replay(context: Context) -> dict[str, Any]:
    """Post dead letters again, and delete the messages of those that are accepted.

    Returns how many ended in which way; that is in XCom also when some stay in the queue, a WorkFailedError.
    """
    params = context["params"]
    with record_failure(context["ti"]):
        clients = CallDetailsClients()
        chosen = [name.strip() for name in params["dead_letters"] or ()]
        result = asyncio.run(_replay(clients, params["limit"], chosen, dry_run=params["dry_run"]))
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
        if left:
            raise WorkFailedError(f"{left} of {result.received} dead letters stay in the queue")
        log.info("%d messages received, %d batches accepted", result.received, result.accepted)
        return summary


async def _replay(clients: CallDetailsClients, limit: int, chosen: Collection[str], *, dry_run: bool) -> ReplayResult:
    open_api = clients.api_opener()
    # No more than one task of an ingest run, so that files which arrive meanwhile have their share.
    share = -(-clients.settings.max_concurrent_calls // TASKS_AT_ONCE)
    async with clients.limiter.hold(share) as permits, open_api(permits.permit) as api:
        return await Replay(clients.dead_letters, api, workers=share).run(limit, chosen=chosen, dry_run=dry_run)
