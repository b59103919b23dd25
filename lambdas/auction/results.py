"""Lambda A's answer: whether the auction has results, and the orders in them (spec: auction)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

_MAX_POWER = 100


@dataclass(frozen=True)
class Auction:
    """An auction whose results are made up.

    Args:
        random: the source of chance; with a seed, the answers come in the same sequence each time.
        probability: share of the calls that find results, 0 to 1.
        max_orders: results hold 1 to that many orders.
    """

    random: Random
    probability: float
    max_orders: int

    def results(self) -> dict[str, Any]:
        """``{"results": False}``, or ``{"results": True, "orders": [{"status": …, "power": …}, …]}``."""
        # random() is below 1, so that a probability of 1 is a certainty; and never below 0.
        if self.random.random() >= self.probability:
            return {"results": False}
        number = self.random.randint(1, self.max_orders)
        return {"results": True, "orders": [self._order() for _ in range(number)]}

    def _order(self) -> dict[str, Any]:
        status = self.random.choice(("accepted", "rejected"))
        return {"status": status, "power": self.random.randint(1, _MAX_POWER)}
