"""The five minutes of a run: by when each of its steps must be done.

All limits are in seconds from the start of the run. A run that is cleared after its end starts anew and has all of
them again; a task that is cleared while its run is still going on has what is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

MAX_RESULTS = 240
"""Results are asked for until the setting ``auction_results_timeout``, which is no more than this."""

GRACE = 10
"""That much later, orders that Lambda A gave in time may still be kept: it may not give them twice."""

LAST_ORDER = 255
"""No order is given to Lambda B later, and no results are waited for."""

LAST_ANSWER = 270
"""No answer of Lambda B is waited for any longer."""

MAX_TASK = 280
"""No task runs longer. Beyond the limits above, which end a task in an orderly way, with an outcome for each order."""

LAST_ALERT = 285
"""No alert is waited for any longer, but for :data:`MIN_TELLING`."""

RUN = 290
"""Airflow ends the run, before the next one is due."""

MIN_TELLING = 5
MAX_TELLING = 40
"""Seconds that sending a run's alerts may take, where there is that much left."""


@dataclass(frozen=True)
class RunClock:
    """How far a run is.

    Args:
        started: when it started, Unix time.
        now: tells the Unix time.
    """

    started: float
    now: Callable[[], float] = time.time

    @classmethod
    def of(cls, start_date: datetime | None) -> Self:
        """The clock of a run.

        Args:
            start_date: the run's aware start, as Airflow has it; without one, the run starts now.
        """
        return cls(time.time() if start_date is None else start_date.timestamp())

    def left(self, limit: float) -> float:
        """Seconds until the run is ``limit`` seconds old; negative when it is older."""
        return self.started + limit - self.now()

    def telling(self) -> float:
        """Seconds that sending the run's alerts may take from now on."""
        return min(MAX_TELLING, max(MIN_TELLING, self.left(LAST_ALERT)))
