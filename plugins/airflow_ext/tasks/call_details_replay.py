"""The task of ``call_details_replay``: Airflow's context on one side, :mod:`include.call_details` on the other."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_ext.hooks.aws import quick_client
from airflow_ext.ids import CALL_DETAILS_REPLAY
from airflow_ext.metrics import count_run, log_links
from airflow_ext.notifications.channels import send_alert
from airflow_ext.notifications.failure_callback import record_alerted, record_failure
from airflow_ext.tasks.call_details_clients import CallDetailsClients
from include.call_details.alerts import replay_alert
from include.call_details.dead_letters import Replay
from include.call_details.poster import TASKS_AT_ONCE
from include.errors import DeadLettersLeftError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.call_details.dead_letters import ReplayResult

log = logging.getLogger(__name__)


def replay(context: Context) -> dict[str, Any]:
    """Post dead letters again, and delete the messages of those that are accepted.

    Returns:
        how many ended in which way; it is in XCom also when some stay in the queue.

    Raises:
        DeadLettersLeftError: some do.
    """
    ti, params = context["ti"], context["params"]
    with record_failure(ti):
        clients = CallDetailsClients()
        result = asyncio.run(_replay(clients, limit=params["limit"], dry_run=params["dry_run"]))
        left = result.failed + result.unreadable
        summary = {**asdict(result), "dry_run": params["dry_run"]}
        ti.xcom_push(key="return_value", value=summary)
        values = {"ReplayedBatches": float(result.accepted), "RefusedBatches": float(left)}
        count_run(context, values, failed=left > 0, environment=clients.settings.environment)
        if left:
            run_id = context["dag_run"].run_id
            alert = replay_alert(result, pipeline=CALL_DETAILS_REPLAY, run_id=run_id, log_url=log_links(context))
            record_alerted(context, send_alert(alert, context, topic_arn=clients.settings.alerts_topic_arn))
            raise DeadLettersLeftError(f"{left} of {result.received} dead letters stay in the queue")
        log.info("%d messages received, %d batches accepted", result.received, result.accepted)
        return summary


async def _replay(clients: CallDetailsClients, *, limit: int, dry_run: bool) -> ReplayResult:
    open_api = clients.api_opener()
    # No more than one task of an ingest run, so that files which arrive meanwhile have their share.
    share = -(-clients.settings.max_concurrent_calls // TASKS_AT_ONCE)
    sqs = quick_client("sqs", session=clients.session)
    async with clients.limiter.hold(share) as permits, open_api(permits.permit) as api:
        dead_letters = Replay(sqs, clients.settings.call_details_dlq_url, clients.dead_letters, api, workers=share)
        return await dead_letters.run(limit, dry_run=dry_run)
