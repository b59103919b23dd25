"""One owner's events, posted in the order of their creation.

A worker claims the lane's first pending event, with a lease, and thereby a few behind it: as long as the first one is
pending and leased, nobody else begins on the lane, and so its outcome is written after all the others'. Two workers on
one lane do not overtake each other, whatever the index, which is a moment late, shows them: whoever is shown an event
that is settled or held loses the claim, and is told the event as it is. Each outcome is written only of the version
that was seen; so a worker that was held up cannot undo what another one has done meanwhile.

A lane begins with one event, takes twice as many each time that all went well and quickly, and is back at one after a
refusal: a receiver that is down costs one post, and what an owner withdraws is not among those about to be posted.

Posts the events of one owner one by one, and says what is to become of each.

What is posted to a webhook: the event as JSON, signed as Standard Webhooks has it.

What the lanes of one task work with.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

from include.clients.http import Failure
from include.clients.webhooks import POST_SECONDS, Endpoint, WebhookResponse
from include.delivery.dead_letters import DeadLetter, DeadLetters
from include.delivery.event_table import SETTLE_SECONDS, EventTable, Writer
from include.delivery.models import SKEW_SECONDS, Change, Event, claim, delivered, failed, release, retry
from include.delivery.report import Tally
from include.delivery.subscriptions import Subscription, Subscriptions
from include.errors import AwsRefusedError, AwsUnavailableError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Letter:
    """One post.

    Args:
        body: JSON; the payload's text is the one that its owner sent, digit by digit.
        headers: with the signature.
    """

    body: bytes
    headers: dict[str, str] = field(repr=False)


def write_letter(event: Event, secret: str, now: float) -> Letter:
    """Write and sign a post; it has the event's id each time, so that a receiver knows a repetition.

    Args:
        event: what it tells of.
        secret: of the subscription.
        now: seconds since the epoch.

    Raises:
        ValueError: the secret is no base64, or empty.
    """
    parts = {
        "id": json.dumps(event.event_id),
        "type": json.dumps(event.event_type),
        "created_at": json.dumps(event.created_at),
        "payload": event.payload,
        "metadata": event.metadata or "null",
    }
    body = f"{{{','.join(f'"{name}":{text}' for name, text in parts.items())}}}"
    try:
        signature = Webhook(secret).sign(event.event_id, datetime.fromtimestamp(now, UTC), body)
    except (ValueError, EmptyWebhookSecretError) as error:
        # Not chained: the decoder's error may quote the secret.
        raise ValueError(f"the secret cannot be used ({type(error).__name__})") from None
    headers = {
        "Content-Type": "application/json",
        "Webhook-Id": event.event_id,
        "Webhook-Timestamp": str(int(now)),
        "Webhook-Signature": signature,
    }
    return Letter(body.encode(), headers)


@dataclass(frozen=True)
class Desk:
    """One task's.

    Args:
        events: the table of events.
        writer: of that table.
        subscriptions: the table of subscriptions.
        dead_letters: the queue of failed events.
        open_endpoint: makes the receiver at a URL, not yet connected.
        threads: where boto3 is called.
        permits: one for each post that may be under way.
        worker: names this attempt of the task; no two have the same name.
        max_attempts: posts of one event.
        until: no event is claimed from then on, seconds since the epoch.
        clock: seconds since the epoch.
    """

    events: EventTable
    writer: Writer
    subscriptions: Subscriptions
    dead_letters: DeadLetters
    open_endpoint: Callable[[str], Endpoint]
    threads: Executor
    permits: asyncio.Semaphore
    worker: str
    max_attempts: int
    until: float
    clock: Callable[[], float]

    async def blocking[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call that waits for AWS, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, partial(call, *args, **kwargs))

    async def tried[**P](self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Make a call that no event has to wait for; False if AWS failed, which the log tells."""
        try:
            await self.blocking(call, *args, **kwargs)
        except (AwsUnavailableError, AwsRefusedError) as error:
            log.error("%s: %s", type(error).__name__, error)
            return False
        return True


SLOW_SECONDS = 3.0
"""A post that took longer is slow. If it was refused besides, the lane is left to a later run at once."""

SLOW_LANE_SECONDS = 20.0
"""So long one slow post may follow another, until the lane is left to a later run: those of others are not to wait."""


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
        self._receiver = desk.open_endpoint(subscription.url)
        self._tally = tally
        self._slow_seconds = 0.0

    async def close(self) -> None:
        """Close the connection; another post makes a new one."""
        await self._receiver.close()

    async def post(self, event: Event, lease_until: float) -> WebhookResponse | None:
        """Post once; None if the lease might end before the post does."""
        async with self._desk.permits:
            now = self._desk.clock()
            if now + POST_SECONDS + SKEW_SECONDS > lease_until:
                return None
            self._tally.attempts += 1
            try:
                letter = write_letter(event, self._subscription.secret, now)
            except ValueError as error:
                return WebhookResponse(None, Failure(None, str(error), retryable=True))
            try:
                reply = await self._receiver.post(letter.body, letter.headers)
            except Exception as error:  # noqa: BLE001 - whatever a stranger's server leads to holds up nobody else
                log.warning("the receiver of %s raised %s", self._subscription.owner, type(error).__name__)
                why = f"connection failed: {type(error).__name__}"
                reply = WebhookResponse(None, Failure(None, why, retryable=True))
            self._see_how_slow(self._desk.clock() - now, reply)
            return reply

    def _see_how_slow(self, seconds: float, reply: WebhookResponse) -> None:
        slow = seconds > SLOW_SECONDS
        self._slow_seconds = self._slow_seconds + seconds if slow else 0.0
        self.over = self.over or self._slow_seconds >= SLOW_LANE_SECONDS or (slow and not reply.accepted)

    async def outcome(self, event: Event, reply: WebhookResponse) -> Outcome:
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


LEASE_SECONDS = 60.0
"""How long a claim holds; what a killed worker has claimed waits for so long."""

MAX_AT_ONCE = 32
"""Most events under one claim."""

QUICK_SECONDS = 2.0
"""If posting those took longer, the next claim is for half as many."""


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
