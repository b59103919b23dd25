"""Posts the events of one owner one by one, and says what is to become of each."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from http import HTTPStatus

from include.clients.delivery import Failure
from include.clients.webhooks import POST_SECONDS, Reply
from include.delivery.changes import Change, delivered, failed, retry
from include.delivery.dead_letters import DeadLetter
from include.delivery.desk import Desk
from include.delivery.event import SKEW_SECONDS, Event
from include.delivery.letter import write_letter
from include.delivery.subscriptions import Subscription
from include.delivery.summary import Tally

SLOW_SECONDS = 3.0
"""A post that took longer is slow. If it was refused besides, the lane is left to a later run at once."""

SLOW_LANE_SECONDS = 20.0
"""So long one slow post may follow another, until the lane is left to a later run: those of others are not to wait."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What to write of a post.

    Args:
        change: of the event.
        again_at: when to post it again, if at all, seconds since the epoch.
        dead: what people are told once it is written.
        queued: the dead-letter queue has that too.
    """

    change: Change
    again_at: float | None = None
    dead: DeadLetter | None = None
    queued: bool = True


class Postman:
    """For one worker.

    Args:
        desk: what it works with.
        subscription: of the owner.
        tally: where it counts its posts.
    """

    def __init__(self, desk: Desk, subscription: Subscription, tally: Tally) -> None:
        self.over = False
        """Nothing more is to be posted in this run."""
        self._desk = desk
        self._subscription = subscription
        self._receiver = desk.open_receiver(subscription.url)
        self._tally = tally
        self._slow_seconds = 0.0

    async def close(self) -> None:
        """Close the connection; another post makes a new one."""
        await self._receiver.close()

    async def post(self, event: Event, lease_until: float) -> Reply | None:
        """Post once; None if the lease might end before the post does."""
        async with self._desk.permits:
            now = self._desk.clock()
            if now + POST_SECONDS + SKEW_SECONDS > lease_until:
                return None
            self._tally.attempts += 1
            try:
                letter = write_letter(event, self._subscription.secret, now)
            except ValueError as error:
                return Reply(None, Failure(None, str(error), retryable=True))
            try:
                reply = await self._receiver.post(letter.body, letter.headers)
            except Exception as error:  # noqa: BLE001 - whatever a stranger's server leads to holds up nobody else
                log.warning("the receiver of %s raised %s", self._subscription.owner, type(error).__name__)
                why = f"connection failed: {type(error).__name__}"
                reply = Reply(None, Failure(None, why, retryable=True))
            self._see_how_slow(self._desk.clock() - now, reply)
            return reply

    def _see_how_slow(self, seconds: float, reply: Reply) -> None:
        slow = seconds > SLOW_SECONDS
        self._slow_seconds = self._slow_seconds + seconds if slow else 0.0
        self.over = self.over or self._slow_seconds >= SLOW_LANE_SECONDS or (slow and not reply.accepted)

    async def outcome(self, event: Event, reply: Reply) -> Outcome:
        """What to write of a post; whoever else is to know is told first, if that is possible."""
        desk, now = self._desk, self._desk.clock()
        if reply.accepted:
            return Outcome(delivered(event, reply, now))
        log.info("%s was not accepted: %s", event.event_id, reply.failure.error if reply.failure else reply.status)
        if reply.status == HTTPStatus.GONE:
            self.over = True
            # If that fails, the next post is answered so again.
            await desk.tried(desk.subscriptions.turn_off, self._subscription, "the receiver answered 410 Gone", now)
        if event.attempts + 1 < desk.max_attempts:
            return Outcome(*retry(event, reply, now))
        letter = DeadLetter.of(event, reply, now)
        # Without a message the event is failed all the same, and the run's alert tells of both: the receiver is not
        # to be asked for ever, nor the owner's other events to wait, because a queue is broken.
        queued = await desk.tried(desk.dead_letters.send, letter)
        return Outcome(failed(event, reply, now), dead=letter, queued=queued)
