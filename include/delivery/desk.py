"""What the lanes of one task work with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from include.clients.webhooks import Receiver
from include.delivery.dead_letters import DeadLetters
from include.delivery.events import EventTable
from include.delivery.subscriptions import Subscriptions
from include.delivery.writer import Writer
from include.errors import AwsRefusedError, AwsUnavailableError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Desk:
    """One task's.

    Args:
        events: the table of events.
        writer: of that table.
        subscriptions: the table of subscriptions.
        dead_letters: the queue of failed events.
        open_receiver: makes the receiver at a URL, not yet connected.
        threads: where boto3 is called.
        permits: one for each post that may be under way.
        worker: names this attempt of the task; no two have the same name.
        max_attempts: posts of one event.
        until: no event is claimed from then on, seconds since the epoch.
        clock: seconds since the epoch.
    """

    events: EventTable
    writer: Writer
    subscriptions: Subscriptions
    dead_letters: DeadLetters
    open_receiver: Callable[[str], Receiver]
    threads: Executor
    permits: asyncio.Semaphore
    worker: str
    max_attempts: int
    until: float
    clock: Callable[[], float]

    async def blocking[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call that waits for AWS, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, partial(call, *args, **kwargs))

    async def tried[**P](self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Make a call that no event has to wait for; False if AWS failed, which the log tells."""
        try:
            await self.blocking(call, *args, **kwargs)
        except (AwsUnavailableError, AwsRefusedError) as error:
            log.error("%s: %s", type(error).__name__, error)
            return False
        return True
