"""How long to wait before something is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Pauses that grow: ``first``, then each ``growth`` times the one before, and up to half as much again by chance.

    Args:
        first: seconds after the first failure.
        longest: limit in seconds of a pause and of what the other side asks for, before chance adds to it.
        growth: factor from one pause to the next.
        jitter: largest part of a pause that chance adds; callers that failed together must not return together.
    """

    first: float = 1.0
    longest: float = 60.0
    growth: float = 2.0
    jitter: float = 0.5

    def seconds(self, failures: int, asked: float | None = None) -> float:
        """Seconds to wait.

        Args:
            failures: how often it has failed by now, from 1.
            asked: seconds that the other side asked to wait; the pause is not shorter.
        """
        # Bounded, as a float has no 2 ** 1024.
        own = min(self.first * self.growth ** min(failures - 1, 64), self.longest)
        chance = random.uniform(0.0, self.jitter)  # noqa: S311 - spreads load, guards nothing
        pause = own * (1.0 + chance)
        return pause if asked is None else max(pause, min(asked, self.longest) + self.first * chance)
