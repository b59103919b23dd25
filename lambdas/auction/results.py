"""Lambda A's answer: whether the auction has results, and the orders in them (spec: auction)."""

from __future__ import annotations

from random import Random
from typing import Any

_MAX_POWER = 100


def results(random: Random, probability: float, max_orders: int) -> dict[str, Any]:
    """``{"results": False}``, or ``{"results": True, "orders": [{"status": …, "power": …}, …]}``: all made up.

    A share of the calls, 0 to 1, finds results, of 1 to ``max_orders`` orders. Where ``random`` has a seed, the answers
    come in the same sequence each time.
    """
    # random() is below 1, so that a probability of 1 is a certainty; and never below 0.
    if random.random() >= probability:
        return {"results": False}
    number = random.randint(1, max_orders)
    return {"results": True, "orders": [_order(random) for _ in range(number)]}


def _order(random: Random) -> dict[str, Any]:
    status = random.choice(("accepted", "rejected"))
    return {"status": status, "power": random.randint(1, _MAX_POWER)}
