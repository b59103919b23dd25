"""How long to wait before an API is asked again."""

from __future__ import annotations

import random

FIRST_SECONDS = 1.0
MAX_SECONDS = 60.0
"""Longest wait inside a task, whatever an answer's ``Retry-After`` asks for: what takes longer is for a later try."""


def retry_delay(failures: int, asked: float | None, *, longest: float = MAX_SECONDS) -> float:
    """Seconds to wait: 1, 2, 4, ... and up to half as much again by chance, but not less than what was asked for.

    Args:
        failures: how often the call has failed by now, from 1.
        asked: ``Retry-After`` of the answer, if it had one.
        longest: limit of both, before chance adds to it.
    """
    own = min(FIRST_SECONDS * 2.0 ** (failures - 1), longest) * random.uniform(1.0, 1.5)  # noqa: S311
    # Jitter on top of what was asked for too: many callers were told the same.
    return max(own, min(asked or 0.0, longest) + random.uniform(0.0, 0.5))  # noqa: S311
