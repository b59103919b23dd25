"""Waiting for a condition of another process."""

import time
from collections.abc import Callable

WAIT_SECONDS = 300.0
"""The longest wait: far more than is needed, since several stacks may share a busy machine."""


def wait_until[T](condition: Callable[[], T], *, what: str, timeout: float = WAIT_SECONDS, poll: float = 0.2) -> T:
    """The first true value of ``condition``, asked every ``poll`` seconds for ``timeout`` seconds.

    Raises:
        AssertionError: it did not come true in time; the message says ``what``.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout:.0f} s for: {what}"
        time.sleep(poll)
    return value
