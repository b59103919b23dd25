"""How much may be in memory at once."""

from __future__ import annotations

import asyncio


class Budget:
    """Bytes that one taker may have taken and others give back, in one event loop.

    Args:
        size: of all together. What is larger is let in alone.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._given_back = asyncio.Event()

    async def take(self, number: int) -> None:
        """Wait until so many bytes are free, or nothing is taken."""
        while self._taken and self._taken + number > self._size:
            self._given_back.clear()
            await self._given_back.wait()
        self._taken += number

    def give_back(self, number: int) -> None:
        """Free bytes that were taken."""
        self._taken -= number
        self._given_back.set()
