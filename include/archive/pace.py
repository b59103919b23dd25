"""How fast a task asks: a limit that an API sets for one call is a limit for all of them."""

from __future__ import annotations

import asyncio
import time

from include.archive.outcomes import Outcome, Result

MAX_PAUSE_SECONDS = 60.0
"""Longest pause of a task that an answer's ``Retry-After`` causes; the refused client itself waits as long as asked."""

MAX_PAUSES = 3
"""Pauses in a row, with no success between them, after which a task stops asking and leaves the rest to its retry."""


class Pace:
    """Makes all clients of a task wait when an answer asked one of them to."""

    def __init__(self) -> None:
        self._ask_again_at = 0.0
        self._pauses = 0

    async def may_ask(self) -> bool:
        """Wait until the API may be asked; False when it has asked for pauses too often."""
        # Again after each sleep: a call that was on its way may have been told to wait longer.
        while self._pauses <= MAX_PAUSES and (left := self._ask_again_at - time.monotonic()) > 0:
            await asyncio.sleep(left)
        return self._pauses <= MAX_PAUSES

    def heed(self, outcome: Outcome) -> None:
        """Learn from an answer."""
        now = time.monotonic()
        if outcome.retry_after is not None:
            self._pauses += now >= self._ask_again_at
            self._ask_again_at = max(self._ask_again_at, now + min(outcome.retry_after, MAX_PAUSE_SECONDS))
        elif outcome.outcome is not Result.FAILED:
            self._pauses = 0
