"""What comes from outside this process, in one place: AWS, partners' APIs, webhooks' network, clock and sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from include.clients.http import HttpClient


@dataclass
class Outside:
    """Nothing in production changes it. Tests replace parts of it, and patch nothing of ours.

    Args:
        aws: boto3 clients by service (``s3``) that stand in for those of connection ``aws_default``.
        http: what partners' APIs are called by; None = the network.
        network: arguments of :func:`include.clients.webhooks.open_webhooks` that stand in for sockets and name servers.
        now: seconds since the epoch.
        monotonic: seconds that only grow.
        sleep: waits for seconds in a thread.
        pause: waits for seconds in an event loop.
        within: waits for what is awaited, so many seconds at most; raises TimeoutError.
    """

    aws: Mapping[str, Any] = field(default_factory=dict)
    http: HttpClient | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    within: Callable[[Awaitable[Any], float], Awaitable[Any]] = asyncio.wait_for

    @contextmanager
    def replaced(self, **parts: Any) -> Iterator[None]:
        """Parts given by name stand in for these of the process, for the block."""
        before = {name: getattr(self, name) for name in parts}
        try:
            vars(self).update(parts)
            yield
        finally:
            vars(self).update(before)


outside = Outside()
