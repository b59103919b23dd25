"""Waiting for a condition of another process."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until[T](condition: Callable[[], T], *, what: str, timeout: float = 60.0, poll: float = 0.2) -> T:
    """The first true value of ``condition``, asked every ``poll`` seconds for ``timeout`` seconds.

    Raises:
        AssertionError: it did not come true in time; the message says ``what``.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout:.0f} s in vain for: {what}"
        time.sleep(poll)
    return value
