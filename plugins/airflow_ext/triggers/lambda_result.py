"""Waits in the triggerer until Lambda A has results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_ext.auction_wait import Event, Wait, event_of
from include.errors import PipelineError


class LambdaResultTrigger(BaseTrigger):
    """Asks Lambda A now and then until it has results, keeps these in S3, and fires one event with references.

    Each look runs in a thread, one after another, so that the event loop is never held. A triggerer that is started
    again takes the wait up with the same deadline, and finds the orders if they were kept before it died.

    Args:
        wait: fields of :class:`~airflow_ext.auction_wait.Wait`.
    """

    def __init__(self, wait: dict[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's is untyped
        self.wait = Wait(**wait)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Path of this class and its argument."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"wait": asdict(self.wait)}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire once: results, no results, or why waiting makes no sense."""
        yield TriggerEvent(await self._outcome())  # type: ignore[no-untyped-call] # Airflow's is untyped

    async def _outcome(self) -> Event:
        wait = self.wait
        try:
            watch = await asyncio.to_thread(wait.watch)
            if await asyncio.to_thread(watch.find) is not None:
                return event_of(wait, ready=True)
            while (pause := wait.pause(time.time())) is not None:
                await asyncio.sleep(pause)
                waiting = await asyncio.to_thread(wait.look, watch)
                if waiting is None:
                    return event_of(wait, ready=True)
                wait = waiting
        except PipelineError as error:
            return event_of(wait, error=error)
        return event_of(wait)
