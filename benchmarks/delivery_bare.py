"""The baseline of the delivery: ready-made posts, one after the other for each owner, and nothing around them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import aiohttp

from benchmarks.cpu import CpuMeter, CpuUse
from benchmarks.delivery_backlog import Backlog, Posting, Receivers
from include.delivery.models import Status, timestamp
from include.delivery.owner_queue import SignedRequest
from local.stack.description import Stack

_WRITES_AT_ONCE = 10
"""Connections that a boto3 client keeps."""

Note = Callable[[str, str], object]
"""Notes that an owner's event, by its id, is delivered; blocks."""


@dataclass(frozen=True)
class BarePosting:
    """One posting.

    Args:
        posting: as the receivers saw it.
        poster_cpu: CPU seconds of the poster.
        cpu: CPU used by the stack meanwhile: the receivers, and the table if it is written.
    """

    posting: Posting
    poster_cpu: float
    cpu: CpuUse


def post_bare(
    stack: Stack, backlog: Backlog, receivers: Receivers, *, at_once: int, note: Note | None = None
) -> BarePosting:
    """Post a backlog: the limit of what can be reached while each owner's order is kept.

    Args:
        stack: where the receivers are.
        backlog: what to post.
        receivers: of its owners.
        at_once: posts at the most.
        note: called after each post, before the owner's next one; None = the table is neither read nor written.

    Raises:
        aiohttp.ClientResponseError: a post was not accepted.
        BenchmarkError: not all arrived.
    """
    requests = {receivers.url(owner): (owner, mine) for owner, mine in backlog.requests().items()}
    receivers.forget()
    with CpuMeter(stack) as meter:
        began = time.process_time()
        asyncio.run(_post_all(requests, at_once, note))
        used = time.process_time() - began
    return BarePosting(backlog.posting(), used, meter.use)


def note_in_table(stack: Stack) -> Note:
    """Notes as one writes it at first: a conditional UpdateItem for each event, of its version as it was stored."""
    dynamodb = stack.aws("dynamodb")

    def note(owner: str, event_id: str) -> None:
        values: dict[str, Any] = {
            ":status": {"S": Status.DELIVERED.value},
            ":owner_status": {"S": f"{owner}#{Status.DELIVERED}"},
            ":now": {"S": timestamp(time.time())},
            ":seen": {"N": "1"},
            ":next": {"N": "2"},
        }
        dynamodb.update_item(
            TableName=stack.events_table,
            Key={"event_id": {"S": event_id}},
            UpdateExpression="SET #status = :status, owner_status = :owner_status, delivered_at = :now, "
            "version = :next REMOVE next_attempt_at",
            ConditionExpression="version = :seen",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues=values,
        )

    return note


async def _post_all(
    requests: Mapping[str, tuple[str, Sequence[SignedRequest]]], at_once: int, note: Note | None
) -> None:
    """Post the requests of each URL; beside them, the owner."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(_WRITES_AT_ONCE) as threads:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=at_once), raise_for_status=True
        ) as session:

            async def post_in_order(url: str, owner: str, mine: Sequence[SignedRequest]) -> None:
                for request in mine:
                    async with session.post(url, data=request.body, headers=request.headers) as answer:
                        await answer.read()
                    if note is not None:
                        await loop.run_in_executor(threads, note, owner, request.headers["Webhook-Id"])

            await asyncio.gather(*(post_in_order(url, *mine) for url, mine in requests.items()))
