"""Starts the delivery when the events API has a new event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_ext.outside import outside

log = logging.getLogger(__name__)

PAUSE_SECONDS = 10.0
"""After the queue could not be read; the scheduled runs deliver meanwhile."""

GATHER_SECONDS = 2.0
"""Between two wake-ups: each makes a run and a row in Airflow's database, and a run takes all there is."""

_POLL_SECONDS = 5
_MESSAGES_AT_ONCE = 10
_MAX_ROUNDS = 50
"""Of reading a full queue, before the trigger fires."""


class EventQueueTrigger(BaseEventTrigger):
    """Fires for the messages of the queue that the setting ``event_queue_url`` names, many at once.

    The provider's trigger for queues needs the queue's URL while the DAG is parsed, ends for good when the queue cannot
    be read once, and puts the messages into the event. Here a message only wakes: it is deleted as it is read, and if
    the wake-up gets lost, the next scheduled run delivers.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's is untyped

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Path of this class; it has no arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire again and again; never ends by itself."""
        while True:
            try:
                sqs, url = await asyncio.to_thread(_open_queue)
                while True:
                    if woken := await asyncio.to_thread(_take, sqs, url):
                        yield TriggerEvent({"messages": woken})  # type: ignore[no-untyped-call] # Airflow's is untyped
                        await outside.pause(GATHER_SECONDS)
            except Exception as error:  # noqa: BLE001 - a trigger that raises is not started again
                # The type only: what raised is not ours, and may quote anything.
                log.error("the event queue cannot be read, which is tried again: %s", type(error).__name__)
            await outside.pause(PAUSE_SECONDS)


def _open_queue() -> tuple[Any, str]:
    from airflow_ext.hooks.aws import quick_client
    from airflow_ext.settings import delivery_settings

    url = delivery_settings().event_queue_url
    return quick_client("sqs"), url


def _take(sqs: Any, url: str) -> int:
    """Wait for messages and delete them; how many there were."""
    taken = 0
    for number in range(_MAX_ROUNDS):
        seconds = 0 if number else _POLL_SECONDS
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=_MESSAGES_AT_ONCE, WaitTimeSeconds=seconds)
        if not (found := answer.get("Messages")):
            break
        taken += len(found)
        entries = [{"Id": str(index), "ReceiptHandle": each["ReceiptHandle"]} for index, each in enumerate(found)]
        sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    return taken
