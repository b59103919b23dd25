"""Waits in the triggerer until Lambda A has results."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_ext.auction_wait import Event, Wait, event_of
from include.errors import PipelineError, TransientError

log = logging.getLogger(__name__)


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
            while (pause := wait.pause(watch)) is not None:
                await asyncio.sleep(pause)
                waiting = await asyncio.to_thread(wait.look, watch)
                if waiting is None:
                    return event_of(wait, ready=True)
                wait = waiting
        except PipelineError as error:
            return event_of(wait, error=error)
        except Exception as error:  # noqa: BLE001 - the task would fail without a word of why, and without a retry
            # The type only: what raised is not ours, and may quote anything.
            what = f"waiting in the triggerer broke off: {type(error).__name__}"
            log.error("%s", what)
            return event_of(wait, error=TransientError(what))
        return event_of(wait)
