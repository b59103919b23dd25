"""One owner's events, posted in the order of their creation.

A worker claims the lane's first pending event, with a lease, and thereby a few behind it: as long as the first one is
pending and leased, nobody else begins on the lane, and so its outcome is written after all the others'. Two workers on
one lane do not overtake each other, whatever the index, which is a moment late, shows them: whoever is shown an event
that is settled or held loses the claim, and is told the event as it is. Each outcome is written only of the version
that was seen; so a worker that was held up cannot undo what another one has done meanwhile.

A lane begins with one event, takes twice as many each time that all went well and quickly, and is back at one after a
refusal: a receiver that is down costs one post, and what an owner withdraws is not among those about to be posted.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque

from include.delivery.changes import claim, release
from include.delivery.desk import Desk
from include.delivery.event import Event
from include.delivery.events import SETTLE_SECONDS
from include.delivery.postman import Outcome, Postman
from include.delivery.subscriptions import Subscription
from include.delivery.summary import Tally

LEASE_SECONDS = 60.0
"""How long a claim holds; what a killed worker has claimed waits for so long."""

MAX_AT_ONCE = 32
"""Most events under one claim."""

QUICK_SECONDS = 2.0
"""If posting those took longer, the next claim is for half as many."""

log = logging.getLogger(__name__)


class Lane:
    """The way of one owner's events to its webhook, for one worker.

    Args:
        desk: what it works with.
        subscription: of the owner.
        tally: where it counts what it does.
    """

    def __init__(self, desk: Desk, subscription: Subscription, tally: Tally) -> None:
        self.subscription = subscription
        self._desk = desk
        self._postman = Postman(desk, subscription, tally)
        self._tally = tally
        self._after: Event | None = None
        self._at_once = 1

    async def close(self) -> None:
        """Close the connection; another turn makes a new one."""
        await self._postman.close()

    async def turn(self) -> float | None:
        """Post what one page of the index shows.

        Returns:
            from when on another turn makes sense, seconds since the epoch; None if there is nothing left to do in
            this run.

        Raises:
            AwsUnavailableError: a retry may work.
            AwsRefusedError: it will not.
        """
        desk = self._desk
        page = await desk.blocking(desk.events.pending, self.subscription.owner, desk.clock(), after=self._after)
        if not page:
            return None
        todo, self._after = deque(page), None
        while todo:
            now = desk.clock()
            # Nothing overtakes the first one.
            if now >= desk.until or todo[0].free_at() > now:
                return max(now, todo[0].free_at())
            claimed, head = claim(todo[0], desk.worker, math.ceil(now + LEASE_SECONDS))
            (lost,) = await desk.writer.write([claimed])
            if lost is not None and lost.pending is not None:
                # By then the index shows it as it is.
                return max(lost.pending.free_at(), now + SETTLE_SECONDS)
            todo.popleft()
            if lost is None:
                behind = self._behind(todo, now)
                again_at = await self._post_all(head, behind)
                todo.extendleft(reversed(behind))
                if again_at is not None or self._postman.over:
                    return again_at
        self._after = page[-1]
        return desk.clock()

    def _behind(self, todo: deque[Event], now: float) -> deque[Event]:
        """Take what may be posted under the first one's lease."""
        found: deque[Event] = deque()
        while todo and len(found) < self._at_once - 1 and todo[0].free_at() <= now:
            found.append(todo.popleft())
        return found

    async def _post_all(self, head: Event, behind: deque[Event]) -> float | None:
        """Post one after the other, writing each outcome while the next is on its way, and the first one's in the end.

        Args:
            head: the lane's first event, as claimed.
            behind: those that follow; what is not posted, as one before was refused, is left in it.

        Returns:
            when to look at the lane again, if one was not accepted or is in other hands; None if all are settled.
        """
        began, again_at, of_head, accepted = self._desk.clock(), None, Outcome(release(head)), True
        notes: list[asyncio.Task[float | None]] = []
        event = head
        while True:
            reply = await self._postman.post(event, head.lease_until)
            if reply is None:
                again_at, accepted = self._desk.clock(), False
                break
            outcome = await self._postman.outcome(event, reply)
            again_at = outcome.again_at
            if event is head:
                of_head = outcome
            else:
                notes.append(asyncio.create_task(self._note(outcome)))
            accepted = reply.accepted
            if not accepted or not behind or self._postman.over:
                break
            event = behind.popleft()
        found = [*await asyncio.gather(*notes), await self._note(of_head), again_at]
        quick = self._desk.clock() - began <= QUICK_SECONDS
        self._at_once = min(2 * self._at_once, MAX_AT_ONCE) if quick else max(1, self._at_once // 2)
        if not accepted:
            self._at_once = 1
        return None if self._postman.over else max((at for at in found if at is not None), default=None)

    async def _note(self, outcome: Outcome) -> float | None:
        """Write an outcome; when to look at the lane again, if the event is in other hands."""
        (lost,) = await self._desk.writer.write([outcome.change])
        if lost is None:
            self._tally.count(outcome.change)
            if outcome.dead is not None:
                self._tally.dead.append(outcome.dead)
                self._tally.unqueued += not outcome.queued
            return None
        # Acknowledged, replayed or deleted meanwhile, or another worker has taken over.
        self._tally.lost += 1
        log.info("%s was posted, but has been changed meanwhile", outcome.change.event_id)
        return None if lost.pending is None else max(lost.pending.free_at(), self._desk.clock() + SETTLE_SECONDS)
