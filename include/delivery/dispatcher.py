"""Delivers a share: many lanes, some of them under way, each by turns, so that none holds up another."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

from include.clients.webhooks import Endpoint
from include.delivery.dead_letters import DeadLetters
from include.delivery.event_table import CALLS_AT_ONCE, EventTable, Writer
from include.delivery.owner_queue import Desk, Lane
from include.delivery.report import Tally
from include.delivery.subscriptions import Subscriptions

DELIVER_SECONDS = 100.0
"""How long a task goes on. A run that the minute began is then over when the minute after the next begins the one that
takes what is left; and slow receivers hold up no run for longer."""

PATIENCE_SECONDS = 6.0
"""A lane that can go on this soon is waited for, and so are the first three retries; others are for a later run."""

REFRESH_SECONDS = 30.0
"""How old a subscription may be: its owner may have turned it off, or named another webhook."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Courier:
    """What shares are delivered with.

    Args:
        events: the table of events.
        subscriptions: the table of subscriptions.
        dead_letters: the queue of failed events.
        open_endpoint: makes the receiver at a URL, not yet connected.
        concurrency: posts that one task makes at once.
        max_attempts: posts of one event.
        seconds: see ``DELIVER_SECONDS``.
        clock: seconds since the epoch.
        sleep: as ``asyncio.sleep``.
        open_threads: makes an executor of so many threads.
    """

    events: EventTable
    subscriptions: Subscriptions
    dead_letters: DeadLetters
    open_endpoint: Callable[[str], Endpoint]
    concurrency: int
    max_attempts: int
    seconds: float = DELIVER_SECONDS
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    open_threads: Callable[[int], Executor] = ThreadPoolExecutor

    async def deliver(self, owners: Sequence[str]) -> Tally:
        """Post all that is due of these owners, and can be posted within the time.

        Args:
            owners: whose events; one without an active subscription is left out.

        Returns:
            what was done.

        Raises:
            AwsUnavailableError: a retry may work; what was posted by then is noted, or is posted again.
            AwsRefusedError: it will not.
        """
        tally = Tally()
        # Half as many lanes again as may post at once: some read, claim, or wait for their outcomes to be written.
        at_once = self.concurrency + self.concurrency // 2
        with self.open_threads(at_once // 4 + CALLS_AT_ONCE) as threads:
            writer = Writer(self.events, threads, sleep=self.sleep)
            desk = Desk(
                events=self.events,
                writer=writer,
                subscriptions=self.subscriptions,
                dead_letters=self.dead_letters,
                open_endpoint=self.open_endpoint,
                threads=threads,
                permits=asyncio.Semaphore(self.concurrency),
                worker=uuid.uuid4().hex,
                max_attempts=self.max_attempts,
                until=self.clock() + self.seconds,
                clock=self.clock,
            )
            rounds = _Rounds(desk, tally, self.sleep)
            await rounds.begin(owners)
            try:
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(min(at_once, len(owners))):
                        tasks.create_task(rounds.work())
            except ExceptionGroup as group:
                # Retry policy, log and alert are to see the error itself: its type decides, its text tells.
                error = group.exceptions[0]
                raise error from error.__cause__
            finally:
                await writer.close()
        log.info("%d posts: %d events delivered, %d failed", tally.attempts, tally.delivered, tally.failed)
        return tally


@dataclass
class _Rounds:
    """Whose turn it is: the lanes by the time from which on they can go on, those that wait longest first."""

    desk: Desk
    tally: Tally
    sleep: Callable[[float], Awaitable[object]]
    _waiting: list[tuple[float, int, Lane]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _checked_at: dict[str, float] = field(default_factory=dict)

    async def begin(self, owners: Sequence[str]) -> None:
        """Queue a lane for each owner that has an active subscription."""
        now = self.desk.clock()
        active = await self.desk.blocking(self.desk.subscriptions.active, owners)
        for subscription in active.values():
            self._checked_at[subscription.owner] = now
            self._queue(now, Lane(self.desk, subscription, self.tally))

    async def work(self) -> None:
        """Give turns to lanes until none is left that can go on soon."""
        while self._waiting:
            at, _, lane = heapq.heappop(self._waiting)
            # Those that are queued meanwhile do not wait for this: whoever queues one then looks for the next itself.
            if (pause := at - self.desk.clock()) > 0:
                await self.sleep(pause)
            current = await self._current(lane)
            if current is not lane:
                await lane.close()
            if current is not None:
                await self._give_turn(current)

    async def _give_turn(self, lane: Lane) -> None:
        again_at = None
        try:
            again_at = await lane.turn()
        finally:
            patience_ends = min(self.desk.clock() + PATIENCE_SECONDS, self.desk.until)
            if again_at is not None and again_at >= patience_ends:
                again_at = None
            # There are to be as many open connections as lanes under way, and not as many as owners.
            if again_at is None or self._waiting:
                await lane.close()
        if again_at is not None:
            self._queue(again_at, lane)

    def _queue(self, at: float, lane: Lane) -> None:
        heapq.heappush(self._waiting, (at, next(self._numbers), lane))

    async def _current(self, lane: Lane) -> Lane | None:
        """The lane of the owner's subscription as it is now; None if there is none any more."""
        owner, now = lane.subscription.owner, self.desk.clock()
        if now - self._checked_at[owner] <= REFRESH_SECONDS:
            return lane
        subscription = (await self.desk.blocking(self.desk.subscriptions.active, [owner])).get(owner)
        self._checked_at[owner] = now
        if subscription == lane.subscription:
            return lane
        return None if subscription is None else Lane(self.desk, subscription, self.tally)
