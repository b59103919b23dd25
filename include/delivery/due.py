"""Whose events are due, divided among mapped tasks."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from math import ceil

from include.delivery.event_table import EventTable
from include.delivery.ledger import backlogs, lane_key
from include.delivery.models import seconds_of
from include.delivery.subscriptions import Subscriptions

MAX_PAGES = 20
"""Pages of 1 MB that are read of what is due, some 100,000 events. Beyond that every active owner's queue is looked at:
events of owners without a subscription stay pending for good, and must not hide the others."""

MAX_OWNERS = 4000
"""In one run; more would make its XCom large."""

EVENTS_PER_TASK = 5000
"""Few events get few tasks: starting one costs as much as posting a thousand."""

OWNERS_PER_TASK = 192
"""Twice as many as a task posts to at once, as shipped: slow endpoints of some are not to hold up the others."""

_READERS = 16


@dataclass(frozen=True)
class Due:
    """What a run has to do.

    Args:
        shares: owners, each in one share; none if nothing is due.
        owners: how many they are.
        events: how many of their events were seen to be due; there may be more.
        oldest_seconds: age of the oldest of them, from its creation.
    """

    shares: tuple[tuple[str, ...], ...]
    owners: int
    events: int
    oldest_seconds: float


def select_due(
    events: EventTable,
    subscriptions: Subscriptions,
    *,
    now: float,
    tasks: int,
    max_pages: int = MAX_PAGES,
    max_owners: int = MAX_OWNERS,
    events_per_task: int = EVENTS_PER_TASK,
    owners_per_task: int = OWNERS_PER_TASK,
) -> Due:
    """Find the owners whose events are due and wanted; ``now`` in seconds since the epoch, ``tasks`` are most shares.

    An owner is found also when its oldest event waits for another attempt and only those behind it are due: to know
    that takes one query, which its task makes. Of more than ``max_owners`` some, drawn by chance, are left to later
    runs. ``events_per_task`` or fewer events make no second share, unless they are of more than ``owners_per_task``
    owners.
    """
    counts: Counter[str] = Counter()
    oldest: dict[str, str] = {}
    pages = events.due(now)
    for page in islice(pages, max_pages):
        for owner, created_at in page:
            counts[owner] += 1
            oldest[owner] = min(created_at, oldest.get(owner, created_at))
    if next(pages, None) is not None:
        unseen = [owner for owner in subscriptions.all_active() if owner not in counts]
        with ThreadPoolExecutor(_READERS) as readers:
            heads = readers.map(lambda owner: events.pending(owner, now, limit=1), unseen)
        for owner, head in zip(unseen, heads, strict=True):
            if head and head[0].free_at() <= now:
                counts[owner], oldest[owner] = 1, head[0].created_at
    lanes = {owner for page in islice(events.due_lanes(now), max_pages) for owner in page}
    wanted = list(subscriptions.active([*counts, *lanes]))
    seen, ages = sum(counts[owner] for owner in wanted), [oldest[owner] for owner in wanted if owner in oldest]
    if len(wanted) > max_owners:
        wanted = random.sample(wanted, max_owners)
    for owner, (count, since) in backlogs(events.items([lane_key(each) for each in wanted if each in lanes])):
        counts[owner] += count
        seen += count
        if since is not None:
            ages.append(since)
    first = min(ages, default=None)
    wished = max(ceil(sum(counts[owner] for owner in wanted) / events_per_task), ceil(len(wanted) / owners_per_task))
    shares = _balanced({owner: counts[owner] for owner in wanted}, min(tasks, wished))
    return Due(shares, len(wanted), seen, max(0.0, now - seconds_of(first)) if first else 0.0)


def _balanced(counts: Mapping[str, int], tasks: int) -> tuple[tuple[str, ...], ...]:
    """Owners in at most ``tasks`` shares of about as many events each."""
    shares: list[list[str]] = [[] for _ in range(min(tasks, len(counts)))]
    loads = [(0, index) for index in range(len(shares))]
    for owner in sorted(counts, key=lambda each: (-counts[each], each)):
        load, index = loads[0]
        shares[index].append(owner)
        heapq.heapreplace(loads, (load + counts[owner], index))
    return tuple(tuple(share) for share in shares)
