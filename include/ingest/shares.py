"""Who may have how much of what does not suffice for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Grant:
    """What one of several holders has.

    Args:
        count: how many permits.
        share: how many it may have, so that all others can have their share too.
        until: when its lease ends, seconds since the epoch.
    """

    count: int
    share: int
    until: float


def fair_share(limit: int, holder: str, wishes: Mapping[str, int]) -> int:
    """What one of several may have: its wish, or less if all wishes together exceed the limit.

    Nobody has less then for the sake of one who has more. The shares of all are the limit, neither more nor less.

    Args:
        limit: of all together.
        holder: who asks.
        wishes: of all, by holder.
    """
    share = 0
    # The modest first: what they leave is for the others. By name, so that all come to the same result.
    for before, name in enumerate(sorted(wishes, key=lambda name: (wishes[name], name))):
        share = min(wishes[name], limit // (len(wishes) - before))
        limit -= share
        if name == holder:
            break
    return share
