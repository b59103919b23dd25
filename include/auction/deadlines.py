"""The five minutes of a run: by when each of its steps must be done.

Limits are in seconds from the start of the run. A run that is cleared after its end starts anew and has all of them
again; a task that is cleared while its run goes on has what is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

MAX_RESULTS = 240
"""Lambda A is polled until the setting ``auction_results_timeout``, which is at most this."""

GRACE = 10
"""So much later, orders that Lambda A gave in time may still be stored: it may not give them twice."""

HANDOVER = 30
"""The trigger that found the orders gives them to Lambda B for so many seconds at most, and not after MAX_RESULTS; it
waits for no answer after MAX_RESULTS and GRACE. What is left, the mapped tasks do."""

LAST_ORDER = 255
"""No order is given to Lambda B later, and no results are waited for."""

LAST_ANSWER = 270
"""No answer of Lambda B is waited for any longer."""

MAX_TASK = 280
"""No task runs longer. Beyond the limits above, which end a task in an orderly way, with an outcome for each order."""

LAST_ALERT = 285
"""Alerts are sent until now, but for :data:`MIN_ALERTS`."""

RUN = 290
"""Airflow ends the run, before the next one is due."""

MIN_ALERTS = 5
MAX_ALERTS = 40
"""Seconds that sending a run's alerts may take, where there is that much left."""


@dataclass(frozen=True)
class RunDeadlines:
    """How much time a run has left, in Unix time."""

    started: float
    now: Callable[[], float] = time.time

    @classmethod
    def of(cls, start_date: datetime | None, now: Callable[[], float] = time.time) -> Self:
        """The deadlines of a run with this aware start, as Airflow has it; without one, the run starts now."""
        return cls(now() if start_date is None else start_date.timestamp(), now)

    def left(self, limit: float) -> float:
        """Seconds until the run is ``limit`` seconds old; negative when it is older."""
        return self.started + limit - self.now()

    def alerts(self) -> float:
        """Seconds that sending the run's alerts may take from now on."""
        return min(MAX_ALERTS, max(MIN_ALERTS, self.left(LAST_ALERT)))
