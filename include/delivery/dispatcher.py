"""Delivers a share of what is due: many owners' queues by turns, so that none holds up another."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field

from include.clients.webhooks import Endpoint
from include.concurrency import GroupCommit, task_group
from include.delivery.event_table import CALLS_AT_ONCE, GATHER_SECONDS, GROUP, EventTable
from include.delivery.ledger import Ledger
from include.delivery.owner_queue import DispatchContext, OwnerQueue
from include.delivery.report import DeadLetters, DeliveryCounts
from include.delivery.subscriptions import Subscriptions
from include.errors import WorkFailedError

DELIVER_SECONDS = 100.0
"""How long a task works. A run that starts with one minute is then over when the run of the minute after next starts
and takes what is left; and slow endpoints hold up no run for longer."""

PATIENCE_SECONDS = 6.0
"""A queue that can go on this soon is waited for, and so are the first three retries; others are for a later run."""

REFRESH_SECONDS = 30.0
"""How old a subscription may be: its owner may have turned it off, or named another webhook."""

_NAMED = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dispatcher:
    """Delivers shares; what is not said here is as in :class:`include.delivery.owner_queue.DispatchContext`.

    Args:
        open_ledger: opens the lanes of the table of events.
        concurrency: posts that one task makes at once.
        open_threads: makes an executor of so many threads.
    """

    events: EventTable
    open_ledger: Callable[[], AbstractAsyncContextManager[Ledger]]
    subscriptions: Subscriptions
    dead_letters: DeadLetters
    open_endpoint: Callable[[str], Endpoint]
    concurrency: int
    max_attempts: int
    seconds: float = DELIVER_SECONDS
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    open_threads: Callable[[int], Executor] = ThreadPoolExecutor

    async def deliver(self, owners: Sequence[str]) -> DeliveryCounts:
        """Post all that is due of these owners, and can be posted within the time.

        Owners without an active subscription are left out.

        Raises:
            AwsUnavailableError: a retry may work; what was posted by then is recorded, or is posted again.
            AwsRefusedError: it will not.
            WorkFailedError: an owner's items are not what they should be; those of the others were delivered.
        """
        counts = DeliveryCounts()
        # Half as many queues again as may post at once: some read, claim, or wait for their updates to be written.
        at_once = self.concurrency + self.concurrency // 2
        async with AsyncExitStack() as opened:
            ledger = await opened.enter_async_context(self.open_ledger())
            threads = opened.enter_context(self.open_threads(at_once // 4 + CALLS_AT_ONCE))
            changes = GroupCommit(
                self.events.change,
                threads,
                gather_seconds=GATHER_SECONDS,
                enough=GROUP,
                most=GROUP,
                calls_at_once=CALLS_AT_ONCE,
                sleep=self.sleep,
            )
            context = DispatchContext(
                ledger=ledger,
                changes=changes,
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
            rounds = _RoundRobin(context, counts, self.sleep)
            await rounds.begin(owners)
            try:
                async with task_group() as tasks:
                    for _ in range(min(at_once, len(owners))):
                        tasks.create_task(rounds.work())
            finally:
                # What was posted is recorded also when the rest was cancelled.
                await changes.close()
        log.info("%d posts: %d events delivered, %d failed", counts.attempts, counts.delivered, counts.failed)
        if rounds.unreadable:
            some = ", ".join(rounds.unreadable[:_NAMED])
            raise WorkFailedError(f"the events of {len(rounds.unreadable)} owners cannot be read ({some}): see the log")
        return counts


@dataclass
class _RoundRobin:
    """Whose turn it is: the queues by the time from which on they can go on, those that wait longest first."""

    context: DispatchContext
    counts: DeliveryCounts
    sleep: Callable[[float], Awaitable[object]]
    unreadable: list[str] = field(default_factory=list)
    _waiting: list[tuple[float, int, OwnerQueue]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _checked_at: dict[str, float] = field(default_factory=dict)

    async def begin(self, owners: Sequence[str]) -> None:
        """Add a queue for each owner that has an active subscription."""
        now = self.context.clock()
        active = await self.context.in_thread(self.context.subscriptions.active, owners)
        for subscription in active.values():
            self._checked_at[subscription.owner] = now
            self._add(now, OwnerQueue(self.context, subscription, self.counts))

    async def work(self) -> None:
        """Give turns to queues until none is left that can go on soon."""
        while self._waiting:
            at, _, queue = heapq.heappop(self._waiting)
            # Queues that are added meanwhile do not wait for this: the worker that adds one looks for the next itself.
            if (pause := at - self.context.clock()) > 0:
                await self.sleep(pause)
            current = await self._current(queue)
            if current is not queue:
                await queue.close()
            if current is not None:
                await self._give_turn(current)

    async def _give_turn(self, queue: OwnerQueue) -> None:
        again_at = None
        try:
            again_at = await queue.turn()
        except (AttributeError, LookupError, TypeError, ValueError):
            # Of an item that is not what it should be; the other queues go on.
            log.exception("the events of %s cannot be read", queue.subscription.owner)
            self.unreadable.append(queue.subscription.owner)
        finally:
            patience_ends = min(self.context.clock() + PATIENCE_SECONDS, self.context.until)
            if again_at is not None and again_at >= patience_ends:
                again_at = None
            # As many open connections as queues under way, not as many as owners.
            if again_at is None or self._waiting:
                await queue.close()
        if again_at is not None:
            self._add(again_at, queue)

    def _add(self, at: float, queue: OwnerQueue) -> None:
        heapq.heappush(self._waiting, (at, next(self._numbers), queue))

    async def _current(self, queue: OwnerQueue) -> OwnerQueue | None:
        """The queue of the owner's subscription as it is now; None if there is no subscription any more."""
        owner, now = queue.subscription.owner, self.context.clock()
        if now - self._checked_at[owner] <= REFRESH_SECONDS:
            return queue
        subscription = (await self.context.in_thread(self.context.subscriptions.active, [owner])).get(owner)
        self._checked_at[owner] = now
        if subscription == queue.subscription:
            return queue
        return None if subscription is None else OwnerQueue(self.context, subscription, self.counts)
