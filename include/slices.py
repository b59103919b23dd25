"""A run's work cut into the pieces that mapped tasks get."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Slice:
    """The work of one mapped task: positions ``start`` to ``stop`` (exclusive) of what the run has to do.

    Args:
        label: what the UI shows.
    """

    start: int
    stop: int
    label: str

    @property
    def size(self) -> int:
        """How many items."""
        return self.stop - self.start


def cut_bounds(count: int, *, max_tasks: int, per_task: int) -> list[tuple[int, int]]:
    """Start and stop of each of at most ``max_tasks`` pieces that cover ``count`` items, in order.

    Up to ``max_tasks`` items get a piece each. Beyond, they are grouped about ``per_task`` to a piece, or more where
    ``max_tasks`` would not do otherwise; sizes differ by at most one.
    """
    tasks = count if count <= max_tasks else min(max_tasks, -(-count // per_task))
    bounds = [index * count // tasks for index in range(tasks + 1)] if tasks else []
    return list(pairwise(bounds))
