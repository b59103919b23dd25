"""A limit on concurrent calls over all tasks, files and replays (spec: call_details, At most 50 calls at once).

A permit allows one call at a time. One item of the ledger table says which task holds how many permits, and until when.
A task renews its permits while it lives, and gives them back at its end; those of a dead task can be taken when its
lease is over. A task may begin a call only while its lease outlasts the longest call: so one that was stopped for
longer than its lease (a paused machine, a frozen process) finds that out before its next call.

Waiting tasks are in the item too, with no permits. So each task can compute its fair share, takes no more than that,
and gives back what is beyond it as soon as no call needs it any more.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from include.clients.dynamodb import Item, ItemTable
from include.errors import NoPermitError, PipelineError, TransientError

LEASE_SECONDS = 90.0
RENEW_SECONDS = 10.0

CALL_SECONDS = 60.0
"""Longest call: its permit must hold until it has ended."""

SKEW_SECONDS = 5.0
"""Clocks of two machines differ by less than this; also, the longest delay between the check and a call's start."""

POLL_SECONDS = 1.0
"""How often a task asks that wants more permits or has to give some back."""

WAIT_SECONDS = 900.0
"""How long a task may be without any permit before it leaves its worker to others."""

_PARTITION = "permits"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grant:
    """What one task holds: permits, how many it may have so that all have their share, and the end of its lease."""

    count: int
    share: int
    until: float


def permits_in_use(table: ItemTable, now: float) -> int:
    """Permits of all APIs that are held at ``now``, seconds since the epoch."""
    holders = [entry for item in table.query(_PARTITION) for entry in item.content.get("holders", {}).values()]
    return sum(int(entry["permits"]) for entry in holders if entry["until_ms"] / 1000 > now)


def fair_share(limit: int, holder: str, wishes: Mapping[str, int]) -> int:
    """The share of one holder: its wish, or less if all wishes together exceed the limit.

    No share is then smaller for the sake of a larger one. All shares together are the limit, or all wishes.
    """
    share = 0
    # The modest first: what they leave is for the others. By name, so that all come to the same result.
    for before, name in enumerate(sorted(wishes, key=lambda name: (wishes[name], name))):
        share = min(wishes[name], limit // (len(wishes) - before))
        limit -= share
        if name == holder:
            break
    return share


class ConcurrencyLimiter:
    """The permits of the API of a name: calls that may be under way at once."""

    def __init__(
        self,
        table: ItemTable,
        name: str,
        limit: int,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._table = table
        self._name = name
        self.limit = limit
        self.clock = clock
        self.sleep = sleep

    @asynccontextmanager
    async def hold(self, wish: int) -> AsyncIterator[PermitLease]:
        """Hold up to ``wish`` permits for a block, and renew them for as long as it lasts; it may begin with none."""
        lease = PermitLease(self, wish)
        renewing = asyncio.create_task(lease.keep())
        try:
            yield lease
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await lease.give_back()

    def refresh(self, holder: str, wish: int, *, at_most: int | None = None) -> Grant:
        """Take, renew, add or give back permits; beyond its share a holder keeps what it has, but gets no more.

        With ``at_most`` it gives some back, with a ``wish`` of 0 all.
        """
        while True:
            seen = self._table.get(_PARTITION, self._name)
            # Before the write: the lease must not seem longer to its holder than to the others.
            now = self.clock()
            live = {
                name: entry
                for name, entry in seen.content.get("holders", {}).items()
                if entry["until_ms"] / 1000 + SKEW_SECONDS > now
            }
            had = live.pop(holder, {"permits": 0})["permits"]
            wishes = {name: entry["wish"] for name, entry in live.items()} | {holder: wish}
            share = fair_share(self.limit, holder, wishes)
            free = self.limit - sum(entry["permits"] for entry in live.values())
            count = max(0, min(wish, wish if at_most is None else at_most, max(share, had), free))
            until_ms = int((now + LEASE_SECONDS) * 1000)
            mine = {holder: {"permits": count, "wish": wish, "until_ms": until_ms}} if wish else {}
            if self._table.replace(Item(seen.pk, seen.sk, seen.version), {"holders": live | mine}) is not None:
                return Grant(count, share, until_ms / 1000)


class PermitLease:
    """The permits that one task holds, and how many it would like to have."""

    def __init__(self, limiter: ConcurrencyLimiter, wish: int) -> None:
        self._limiter = limiter
        self._clock = limiter.clock
        self._holder = uuid.uuid4().hex
        self._wish = wish
        self._count = 0
        self._share = wish
        self._until = self._had_some_at = self._clock()
        self._in_use = 0
        self._failure: Exception | None = None
        self._pending: asyncio.Task[Grant] | None = None
        self._changed = asyncio.Condition()

    @property
    def count(self) -> int:
        """Permits, in use or not."""
        return self._count

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[None]:
        """Use one permit for a block, which is one call; raises NoPermitError after ``WAIT_SECONDS`` without any."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._failure is not None or self._may_begin())
            if self._failure is not None:
                raise self._failure
            self._in_use += 1
        try:
            yield
        finally:
            self._in_use -= 1
            async with self._changed:
                self._changed.notify()

    def _may_begin(self) -> bool:
        # None beyond its share: who always has a call to begin would give nothing back while there is work.
        return (
            self._in_use < min(self._count, self._share) and self._clock() + CALL_SECONDS + SKEW_SECONDS <= self._until
        )

    async def keep(self) -> None:
        """Take permits, renew them, and take more until the wish is met; ends only by an error that lasts."""
        while self._failure is None:
            await self.renew()
            content = self._count == self._share == self._wish
            # Jitter, so that those who wait do not all ask at the same instant.
            await self._limiter.sleep(RENEW_SECONDS if content else random.uniform(0.5, 1.5) * POLL_SECONDS)  # noqa: S311

    async def renew(self) -> None:
        """Ask once; an error that lasts is raised where somebody waits for a permit."""
        # What is given back must not be used from here on, and what is in use cannot be given back.
        self._count = min(self._count, max(self._share, self._in_use))
        try:
            grant = await self._refresh(self._wish, at_most=max(self._share, self._in_use))
            self._count, self._share, self._until = grant.count, grant.share, grant.until
        except TransientError as error:
            # What is held stays held until its lease is over.
            log.warning("permits could not be renewed: %s", error)
        except Exception as error:
            log.exception("permits cannot be renewed")
            self._failure = error
        now = self._clock()
        if self._until > now and self._count:
            self._had_some_at = now
        elif now - self._had_some_at > WAIT_SECONDS:
            self._failure = NoPermitError(f"no permit to call the API within {WAIT_SECONDS:g} s")
        async with self._changed:
            self._changed.notify_all()

    async def give_back(self) -> None:
        """Give all permits back, so that others need not wait for the end of the lease."""
        if self._pending is not None:
            # A renewal that is still under way would take them again.
            await asyncio.gather(self._pending, return_exceptions=True)
        try:
            await self._refresh(0)
        except PipelineError as error:
            log.warning("permits could not be given back, their lease will end: %s", error)

    async def _refresh(self, wish: int, *, at_most: int | None = None) -> Grant:
        ask = partial(self._limiter.refresh, self._holder, wish, at_most=at_most)
        self._pending = asyncio.create_task(asyncio.to_thread(ask))
        return await asyncio.shield(self._pending)
