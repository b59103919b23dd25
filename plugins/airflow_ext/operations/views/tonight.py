"""Tonight: what queues and tables know beside Airflow, for the card on its first page."""

from __future__ import annotations

from itertools import islice
from typing import Any

from fastapi import APIRouter

from airflow_ext.ids import CALL_DETAILS_REPLAY, EVENT_DELIVERY
from airflow_ext.operations.reading import Reads
from airflow_ext.operations.routing import answers, metadata
from airflow_ext.outside import outside
from airflow_ext.settings import Settings
from include.delivery.event_table import EventTable
from include.delivery.ledger import backlogs, lane_key
from include.delivery.models import LONGEST_ASKED_SECONDS
from include.delivery.subscriptions import Subscriptions

router = APIRouter(prefix="/tonight", dependencies=[metadata(EVENT_DELIVERY), metadata(CALL_DETAILS_REPLAY)])

_AT_ONCE, _PAGES = 50, 20
"""Of what is due, so many are looked at, until one is of an owner with a webhook."""

_COUNTS = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]


@answers(router.get(""))
def tonight(reads: Reads) -> dict[str, Any]:
    """Dead letters in both queues, and whose event has waited longest for its webhook, and since when."""
    settings = reads.settings
    urls = {"batches": settings.call_details_dlq_url, "events": settings.event_dlq_url}
    waiting = reads.each(lambda url: _waiting(reads, url), urls.values(), "dead letters")
    return {
        "dead_letters": dict(zip(urls, waiting, strict=True)),
        "oldest_due": reads.attempt(lambda: _oldest(reads, settings)) if settings.events_table else None,
    }


def _waiting(reads: Reads, url: str) -> int | None:
    if not url:
        return None
    found = reads.aws("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=_COUNTS)["Attributes"]
    return sum(int(found[name]) for name in _COUNTS)


def _oldest(reads: Reads, settings: Settings) -> dict[str, Any] | None:
    """The oldest pending event of the owners with a webhook, since its creation: others fetch theirs from the inbox."""
    table = EventTable(reads.aws("dynamodb"), settings.events_table, sleep=outside.sleep)
    subscriptions = Subscriptions(reads.aws("dynamodb"), settings.subscriptions_table, sleep=outside.sleep)
    # What waits for its next attempt is pending, too.
    now = outside.now() + LONGEST_ASKED_SECONDS
    found: list[tuple[str, str]] = []
    for page in islice(table.due(now, limit=_AT_ONCE), _PAGES):
        wanted = subscriptions.active([owner for owner, _ in page])
        found = [(since, owner) for owner, since in page if owner in wanted]
        if found:
            break
    for lanes in islice(table.due_lanes(now, limit=_AT_ONCE), _PAGES):
        wanted = subscriptions.active(lanes)
        backlog = backlogs(table.items([lane_key(owner) for owner in lanes if owner in wanted]))
        if waiting := [(since, owner) for owner, (_, since) in backlog if since is not None]:
            found += waiting
            break
    since, owner = min(found, default=(None, None))
    return {"owner": owner, "due": since} if owner else None
