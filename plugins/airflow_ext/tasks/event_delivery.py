"""The tasks of ``event_delivery``: Airflow's context on one side, :mod:`include.delivery` on the other."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from itertools import batched
from typing import Any

from airflow.sdk import Context

from airflow_ext.defaults import began_at
from airflow_ext.hooks.aws import AwsSession, quick_client, signed_client
from airflow_ext.ids import XComKey
from airflow_ext.metrics import RunReport, task_states
from airflow_ext.notifications.failure_callback import record_failure
from airflow_ext.outside import outside
from airflow_ext.settings import delivery_settings
from include.alerts import KILLED, Section
from include.clients.webhooks import Endpoint, open_webhooks
from include.delivery import due
from include.delivery.dispatcher import Dispatcher
from include.delivery.due import Due
from include.delivery.event_table import GROUP, EventTable
from include.delivery.ledger import Ledger
from include.delivery.models import Change
from include.delivery.report import (
    DELIVER_TASK,
    SELECT_TASK,
    DeadLetters,
    DeliveryCounts,
    failure_alerts,
    metrics,
    not_alerted,
    task_failures_alert,
    unreported,
)
from include.delivery.subscriptions import Subscriptions
from include.errors import PipelineError, WorkFailedError, describe
from include.text import printable_values

log = logging.getLogger(__name__)


class DeliveryClients:
    """One task's settings and clients; raises as :func:`delivery_settings` does."""

    def __init__(self) -> None:
        self.settings = delivery_settings()
        self._session = AwsSession()
        dynamodb = quick_client("dynamodb", session=self._session)
        self.events = EventTable(dynamodb, self.settings.events_table)
        self.subscriptions = Subscriptions(dynamodb, self.settings.subscriptions_table, sleep=outside.sleep)

    def dispatcher(self) -> Dispatcher:
        """Delivers to public addresses over https only, unless the environment is the local one."""
        guarded = not self.settings.is_local
        return Dispatcher(
            events=self.events,
            open_ledger=self._open_ledger,
            subscriptions=self.subscriptions,
            dead_letters=DeadLetters(quick_client("sqs", session=self._session), self.settings.event_dlq_url),
            open_endpoint=lambda url: Endpoint(
                url, open_webhooks(public_only=guarded, **outside.network), https_only=guarded
            ),
            concurrency=self.settings.delivery_concurrency,
            max_attempts=self.settings.max_delivery_attempts,
        )

    @asynccontextmanager
    async def _open_ledger(self) -> AsyncIterator[Ledger]:
        async with signed_client("dynamodb", session=self._session) as dynamodb:
            yield Ledger(dynamodb.call, self.settings.events_table)


def select_due(context: Context) -> list[list[str]]:
    """Find whose events are due; returns the owners in shares, one for each task; none if nothing is due."""
    ti = context["ti"]
    with record_failure(ti):
        clients = DeliveryClients()
        tasks = clients.settings.delivery_tasks
        found = due.select_due(clients.events, clients.subscriptions, now=outside.now(), tasks=tasks)
        log.info("%d events of %d owners are due", found.events, found.owners)
        ti.xcom_push(key=XComKey.DUE, value={**asdict(found), "shares": []})
        return [list(share) for share in found.shares]


def deliver(context: Context, owners: list[str]) -> dict[str, Any]:
    """Post what is due of some owners.

    Returns numbers, and the events that failed for good: :meth:`include.delivery.report.DeliveryCounts.to_document`.
    """
    with record_failure(context["ti"]):
        label = owners[0] if len(owners) == 1 else f"{len(owners):,} owners"
        context["label"] = label  # type: ignore[typeddict-unknown-key] # read by map_index_template
        clients = DeliveryClients()
        with _rare_collections():
            counts = asyncio.run(clients.dispatcher().deliver(owners))
        if context["ti"].try_number > 1:
            # An earlier attempt of the task has not reported the events that failed in it.
            known = {letter.event_id for letter in counts.dead}
            found = unreported(clients.events, owners, since=began_at(context).timestamp())
            earlier = [letter for letter in found if letter.event_id not in known]
            counts.failed += len(earlier)
            counts.dead += earlier
        document: dict[str, Any] = printable_values(counts.to_document())
        return document


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Collect garbage seldom, and not among what is there already: it takes a sixth of the CPU of posting."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def summarize(context: Context) -> dict[str, Any]:
    """Add up what the tasks did, publish metrics, and alert about events and tasks that failed.

    Returns the numbers; they are in XCom also when the run fails.

    Raises:
        WorkFailedError: what is due is not known, or a task failed; the next run goes on.
    """
    ti = context["ti"]
    with record_failure(ti):
        clients = DeliveryClients()
        seen = ti.xcom_pull(task_ids=SELECT_TASK, key=XComKey.DUE)
        found = Due(**seen) if seen else None
        counts, reasons = _outcomes(context, clients.events)
        total = DeliveryCounts.total(counts)
        numbers = {name: value for name, value in asdict(total).items() if name != "dead"}
        due_now = {"due": found.events, "owners": found.owners} if found else {}
        report = RunReport(context, clients.settings)
        failed_tasks = task_failures_alert(reasons, report.run) if reasons else None
        to_alert, marks = counts, list[Change]()
        with _alerted_again_at_worst():
            to_alert, marks = not_alerted(clients.events, counts)
        if report.alert(*failure_alerts(to_alert, report.run).values(), failed_tasks):
            with _alerted_again_at_worst():
                for group in batched(marks, GROUP):
                    # One that somebody has changed meanwhile is left as it is.
                    clients.events.change(group)
        report.send_waiting()
        report.count(metrics(found, total), failed=bool(reasons))
        report.note(
            f"{total.delivered:,} events delivered",
            section=Section.DELIVERY_RUN if reasons else Section.EVENT_DEAD_LETTERS if total.failed else None,
            **due_now,
            posts=total.attempts,
            again_later=total.postponed,
            failed=total.failed,
            failed_tasks=len(reasons),
        )
        summary = report.push({**due_now, **numbers, "failed_tasks": len(reasons)})
        if reasons:
            raise WorkFailedError(f"{len(reasons)} tasks failed; what is due stays due, and the next run takes it")
        report.update_asset(summary)
        return summary


def _outcomes(context: Context, events: EventTable) -> tuple[list[DeliveryCounts], dict[int | None, str]]:
    """What the run's tasks did, by map index, and why some failed; None is the task that finds what is due."""
    ti, states = context["ti"], task_states(context, SELECT_TASK, DELIVER_TASK)
    counts: list[DeliveryCounts] = []
    reasons: dict[int | None, str] = {}
    if states.get(SELECT_TASK) != "success":
        reasons[None] = ti.xcom_pull(task_ids=SELECT_TASK, key=XComKey.FAILURE) or KILLED
    for index, owners in enumerate(ti.xcom_pull(task_ids=SELECT_TASK, key="return_value") or []):
        document = ti.xcom_pull(task_ids=DELIVER_TASK, key="return_value", map_indexes=index)
        if states.get(f"{DELIVER_TASK}_{index}") == "success" and document:
            counts.append(DeliveryCounts.from_document(document))
        else:
            reasons[index] = ti.xcom_pull(task_ids=DELIVER_TASK, key=XComKey.FAILURE, map_indexes=index) or KILLED
            dead = unreported(events, owners, since=began_at(context).timestamp())
            counts.append(DeliveryCounts(failed=len(dead), dead=dead))
    return counts, reasons


@contextmanager
def _alerted_again_at_worst() -> Iterator[None]:
    """What becomes of the marks of alerted events: failing to read or write them is only logged."""
    try:
        yield
    except PipelineError as error:
        log.warning("failed events may be alerted again: %s", describe(error))
