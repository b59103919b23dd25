"""The permits that one task holds: renewed while it lives, used for one call each, given back in the end."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from include.errors import NoPermitError, PipelineError, TransientError
from include.ingest.shares import Grant

if TYPE_CHECKING:
    from include.ingest.permits import Permits

log = logging.getLogger(__name__)

RENEW_SECONDS = 10.0

CALL_SECONDS = 60.0
"""How long one call may take: its permit must hold until it has ended."""

SKEW_SECONDS = 5.0
"""Clocks of two machines differ by less than this; also, how long a call may be held up between check and start."""

POLL_SECONDS = 1.0
"""How often somebody asks who would like to have more, or has to give some back."""

WAIT_SECONDS = 900.0
"""How long a task may be without any permit before it leaves its worker to others."""


class Held:
    """The permits that one task holds at the moment.

    Args:
        permits: where they come from.
        wish: how many it would like to have.
        clock: seconds since the epoch.
        sleep: as ``asyncio.sleep``.
    """

    def __init__(
        self, permits: Permits, wish: int, *, clock: Callable[[], float], sleep: Callable[[float], Awaitable[object]]
    ) -> None:
        self._permits = permits
        self._holder = uuid.uuid4().hex
        self._wish = wish
        self._clock = clock
        self._sleep = sleep
        self._count = 0
        self._share = wish
        self._until = self._had_some_at = clock()
        self._in_use = 0
        self._failure: Exception | None = None
        self._pending: asyncio.Task[Grant] | None = None
        self._changed = asyncio.Condition()

    @property
    def count(self) -> int:
        """How many there are at the moment, in use or not."""
        return self._count

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[None]:
        """Hold one permit for a block: one call. Waits until one is there.

        Raises:
            NoPermitError: there was none for ``WAIT_SECONDS``.
            AwsRefusedError: DynamoDB does not let us have any.
        """
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
        return self._in_use < self._count and self._clock() + CALL_SECONDS + SKEW_SECONDS <= self._until

    async def keep(self) -> None:
        """Take permits, renew them, and take more until the wish is met; ends only by an error that lasts."""
        while self._failure is None:
            await self.renew()
            content = self._count == self._share == self._wish
            # Jitter, so that those who wait do not all ask at the same instant.
            await self._sleep(RENEW_SECONDS if content else random.uniform(0.5, 1.5) * POLL_SECONDS)  # noqa: S311

    async def renew(self) -> None:
        """Ask once; an error is kept for those who wait for a permit."""
        # What is given back must not be used from here on, and what is in use cannot be given back.
        self._count = min(self._count, max(self._share, self._in_use))
        try:
            grant = await self._refresh(self._wish, at_most=max(self._share, self._in_use))
            self._count, self._share, self._until = grant.count, grant.share, grant.until
        except TransientError as error:
            # What is held stays held until its lease is over.
            log.warning("permits could not be renewed: %s", error)
        except Exception as error:
            # Those who wait for a permit raise it; here nobody would see it.
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
            # Renewing that is still under way would take them again.
            await asyncio.gather(self._pending, return_exceptions=True)
        try:
            await self._refresh(0)
        except PipelineError as error:
            log.warning("permits could not be given back, their lease will end: %s", error)

    async def _refresh(self, wish: int, *, at_most: int | None = None) -> Grant:
        ask = partial(self._permits.refresh, self._holder, wish, at_most=at_most)
        self._pending = asyncio.create_task(asyncio.to_thread(ask))
        return await asyncio.shield(self._pending)
