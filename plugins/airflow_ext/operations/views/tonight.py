"""Tonight: what queues and tables know beside Airflow, for the card on its first page."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from airflow_ext.ids import CALL_DETAILS_REPLAY, EVENT_DELIVERY
from airflow_ext.operations.reading import Reads
from airflow_ext.operations.routing import answer, metadata
from include.delivery.ledger import Lane

router = APIRouter(prefix="/tonight", dependencies=[metadata(EVENT_DELIVERY), metadata(CALL_DETAILS_REPLAY)])

_COUNTS = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]


@router.get("")
async def tonight(request: Request) -> Response:
    """Dead letters in both queues, and since when the event has been due that is due for longest."""
    return await answer(request, _tonight)


def _tonight(reads: Reads) -> dict[str, Any]:
    settings = reads.settings
    urls = {"batches": settings.call_details_dlq_url, "events": settings.event_dlq_url}
    waiting = reads.each(lambda url: _waiting(reads, url), urls.values(), "dead letters")
    return {
        "dead_letters": dict(zip(urls, waiting, strict=True)),
        "oldest_due": reads.attempt(lambda: _oldest(reads, settings.events_table)) if settings.events_table else None,
    }


def _waiting(reads: Reads, url: str) -> int | None:
    if not url:
        return None
    found = reads.aws("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=_COUNTS)["Attributes"]
    return sum(int(found[name]) for name in _COUNTS)


def _oldest(reads: Reads, table: str) -> dict[str, Any] | None:
    found = [each for each in (_first_event(reads, table), _first_lane(reads, table)) if each]
    return min(found, key=lambda each: str(each["due"]), default=None)


def _first(reads: Reads, table: str, status: str) -> dict[str, Any] | None:
    found = reads.aws("dynamodb").query(
        TableName=table,
        IndexName="by-status",
        KeyConditionExpression="#status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": status}},
        Limit=1,
    )["Items"]
    return found[0] if found else None


def _first_event(reads: Reads, table: str) -> dict[str, Any] | None:
    first = _first(reads, table, "pending")
    return {"owner": first["owner"]["S"], "due": first["next_attempt_at"]["S"]} if first else None


def _first_lane(reads: Reads, table: str) -> dict[str, Any] | None:
    first = _first(reads, table, "lane")
    if first is None:
        return None
    key = {"event_id": first["event_id"]}
    lane = Lane.of(reads.aws("dynamodb").get_item(TableName=table, Key=key, ConsistentRead=True).get("Item", key))
    return {"owner": lane.owner, "due": lane.oldest} if lane.oldest else None
