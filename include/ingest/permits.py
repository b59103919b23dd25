"""Never more than so many calls at once, over all tasks, files and replays (spec: ingest, At most 50 calls at once).

A permit allows one call at a time. All permits lie in one item of the ledger table, which says who holds how many and
until when; a holder renews them, and what a dead one held can be taken when its lease is over. A holder that was
stopped for longer than its lease (a paused machine, a frozen process) finds that out before its next call, because it
may begin one only while its lease outlasts the longest call.

Who waits is in the item too, with no permits. So everybody sees how many each may have at most for all to have their
share, takes no more, and gives back what is beyond it, as far as no call needs it any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from include.clients.items import Item, ItemTable
from include.ingest.holding import SKEW_SECONDS, Held
from include.ingest.shares import Grant, fair_share

LEASE_SECONDS = 90.0

_PARTITION = "permits"


class Permits:
    """The permits of one API, as one table knows them.

    Args:
        table: the ledger table.
        name: of the API.
        limit: how many calls may be under way at once.
        clock: seconds since the epoch.
        sleep: as ``asyncio.sleep``.
    """

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
        self._limit = limit
        self._clock = clock
        self._sleep = sleep

    def refresh(self, holder: str, wish: int, *, at_most: int | None = None) -> Grant:
        """Take, renew, add or give back permits: as many as are free, but beyond one's share no more than one has.

        Args:
            holder: who asks.
            wish: how many it would like to have; 0 gives all back.
            at_most: how many it would take now; so it gives some back.

        Raises:
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        while True:
            seen = self._table.get(_PARTITION, self._name)
            # Before the write: the lease must not seem longer to its holder than to the others.
            now = self._clock()
            live = {
                name: entry
                for name, entry in seen.content.get("holders", {}).items()
                if entry["until_ms"] / 1000 + SKEW_SECONDS > now
            }
            had = live.pop(holder, {"permits": 0})["permits"]
            wishes = {name: entry["wish"] for name, entry in live.items()} | {holder: wish}
            share = fair_share(self._limit, holder, wishes)
            free = self._limit - sum(entry["permits"] for entry in live.values())
            count = max(0, min(wish, wish if at_most is None else at_most, max(share, had), free))
            until_ms = int((now + LEASE_SECONDS) * 1000)
            mine = {holder: {"permits": count, "wish": wish, "until_ms": until_ms}} if wish else {}
            if self._table.replace(Item(seen.pk, seen.sk, seen.version), {"holders": live | mine}) is not None:
                return Grant(count, share, until_ms / 1000)

    @asynccontextmanager
    async def hold(self, wish: int) -> AsyncIterator[Held]:
        """Hold permits for a block, and renew them for as long as it lasts; the block may begin with none.

        Args:
            wish: how many at most. Fewer are taken if fewer are free, and more when they become so.
        """
        held = Held(self, wish, clock=self._clock, sleep=self._sleep)
        renewing = asyncio.create_task(held.keep())
        try:
            yield held
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await held.give_back()
