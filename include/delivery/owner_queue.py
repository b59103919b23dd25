"""One owner's events, posted to its webhook in the order of their creation.

A worker takes the owner's lane, with a lease: nobody else begins on the queue meanwhile. It notes in the lane what was
accepted, many events at a time; every such write is refused once another worker has the lane, so a worker that was held
up changes nothing. See :mod:`include.delivery.ledger`.

An event that has a status of its own, because it was refused or replayed, or stored before there were lanes, is claimed
besides, and its outcome is written in it, on condition of the version that was seen. A worker claims the first of
these, and thereby a few behind it: its outcome is written last. The number begins with one, doubles each time that all
went well and quickly, and is back at one after a failed attempt: an endpoint that is down costs one post.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from http import HTTPStatus

from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

from include.clients.http import Failure
from include.clients.webhooks import POST_SECONDS, Endpoint, WebhookResponse
from include.concurrency import GroupCommit
from include.delivery.event_table import GROUP, SETTLE_SECONDS
from include.delivery.ledger import LEASE_SECONDS, Entry, HeldLane, LaneLostError, Ledger, Page, outcome
from include.delivery.models import (
    SKEW_SECONDS,
    Attempt,
    Change,
    Conflict,
    Event,
    Status,
    claim,
    delivered,
    failed,
    release,
    retry,
    timestamp,
)
from include.delivery.report import DeadLetter, DeadLetters, DeliveryCounts
from include.delivery.subscriptions import Subscription, Subscriptions
from include.errors import AwsRefusedError, AwsUnavailableError

MAX_AT_ONCE = 32
"""Most events under one claim, and most that are posted before the lane is written."""

UNWRITTEN_SECONDS = 3.0
"""So long an accepted event waits for others to be written with it."""

QUICK_SECONDS = 2.0
"""If posting what was claimed took longer, the next claim is for half as many."""

READ_AHEAD_BYTES = 256 * 1024
"""Of payloads in items of their own: the next ones are read together until they have so many."""

PAGE_SECONDS = 10.0
"""So long events are posted that were read; then they are read again, as their owner may have withdrawn some."""

SLOW_SECONDS = 3.0
"""A post that took longer is slow. If it failed besides, the queue is left to a later run at once."""

SLOW_QUEUE_SECONDS = 20.0
"""After so long a series of slow posts the queue is left to a later run: other owners' events are not to wait."""

log = logging.getLogger(__name__)

_string = json.JSONEncoder().encode
_webhook = lru_cache(1024)(Webhook)
"""Signs with a secret, which it decodes once."""


@dataclass(frozen=True)
class SignedRequest:
    """One post: JSON, with the payload's text as its owner sent it, digit by digit, and headers with the signature."""

    body: bytes
    headers: dict[str, str] = field(repr=False)


def signed_request(event: Event, secret: str, now: float, *, before: str = "") -> SignedRequest:
    """A post of an event, signed as Standard Webhooks has it; ``now`` in seconds since the epoch.

    A repetition has the same ``Webhook-Id``. ``before`` is a secret that the receiver may still have instead.

    Raises:
        ValueError: the secret is no base64, or empty.
    """
    event_id, event_type, created_at = map(_string, (event.event_id, event.event_type, event.created_at))
    body = (
        f'{{"id":{event_id},"type":{event_type},"created_at":{created_at},"payload":{event.payload},'
        f'"metadata":{event.metadata or "null"}}}'
    )
    at = datetime.fromtimestamp(now, UTC)
    try:
        signature = _webhook(secret).sign(event.event_id, at, body)
    except (ValueError, EmptyWebhookSecretError) as error:
        # Not chained: the decoder's error may quote the secret.
        raise ValueError(f"the secret cannot be used ({type(error).__name__})") from None
    if before:
        with suppress(ValueError, EmptyWebhookSecretError):
            signature += f" {_webhook(before).sign(event.event_id, at, body)}"
    headers = {
        "Content-Type": "application/json",
        "Webhook-Id": event.event_id,
        "Webhook-Timestamp": str(int(now)),
        "Webhook-Signature": signature,
    }
    return SignedRequest(body.encode(), headers)


@dataclass(frozen=True)
class DispatchContext:
    """What the queues of one task share.

    Args:
        changes: commits changes of events.
        open_endpoint: makes the endpoint at a URL, not yet connected.
        threads: where boto3 is called.
        permits: one for each post that may be under way.
        worker: names this attempt of the task; no two have the same name.
        max_attempts: posts of one event.
        until: no event is claimed from then on, seconds since the epoch.
        clock: seconds since the epoch.
    """

    ledger: Ledger
    changes: GroupCommit[Change, Conflict | None]
    subscriptions: Subscriptions
    dead_letters: DeadLetters
    open_endpoint: Callable[[str], Endpoint]
    threads: Executor
    permits: asyncio.Semaphore
    worker: str
    max_attempts: int
    until: float
    clock: Callable[[], float]

    async def in_thread[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a blocking call of AWS."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, partial(call, *args, **kwargs))

    async def succeeds[**P](self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Make a blocking call of AWS; False if it failed, which is logged."""
        try:
            await self.in_thread(call, *args, **kwargs)
        except (AwsUnavailableError, AwsRefusedError) as error:
            log.warning("%s: %s", type(error).__name__, error)
            return False
        return True


@dataclass(frozen=True)
class EventUpdate:
    """What to write of an event after a post.

    Args:
        again_at: when to post it again, if at all, seconds since the epoch.
        dead_letter: of a failed event: reported once the change is written.
        queued: the dead-letter queue has it too.
    """

    change: Change
    again_at: float | None = None
    dead_letter: DeadLetter | None = None
    queued: bool = True


class OwnerQueue:
    """The pending events of one owner, for one worker; the context is shared with the task's other queues."""

    def __init__(self, context: DispatchContext, subscription: Subscription, counts: DeliveryCounts) -> None:
        self.subscription = subscription
        self._context = context
        self._counts = counts
        self._endpoint = context.open_endpoint(subscription.url)
        self._after: str | None = None
        """Where the events that have a status of their own go on."""
        self._at_once = 1
        self._slow_seconds = 0.0
        self._stopped = False
        """Nothing more is to be posted in this run."""

    async def close(self) -> None:
        """Close the connection; another turn makes a new one."""
        await self._endpoint.close()

    async def turn(self) -> float | None:
        """Take the lane, post what one page of each index shows, and give it back.

        Returns from when on another turn makes sense, seconds since the epoch; None if this run has nothing left to do.
        """
        context, now = self._context, self._context.clock()
        if now >= context.until:
            return now
        try:
            lane = await context.ledger.take(self.subscription.owner, context.worker, now)
        except LaneLostError as lost:
            return max(lost.until + SKEW_SECONDS, now + SETTLE_SECONDS)
        try:
            return await self._work_in(lane, now)
        except LaneLostError as lost:
            self._counts.lost += lane.unwritten
            log.info("%d events of %s were posted, but another worker has its lane", lane.unwritten, lane.lane.owner)
            return max(lost.until + SKEW_SECONDS, context.clock() + SETTLE_SECONDS)
        except BaseException:
            # What was accepted is recorded also when the rest failed or was cancelled.
            if lane.unwritten:
                with suppress(AwsUnavailableError, AwsRefusedError, LaneLostError):
                    await self._give_back(lane, lane.lane.oldest or timestamp(now))
            raise

    async def _work_in(self, lane: HeldLane, began: float) -> float | None:
        waiting, more = await self._read(lane, began)
        again_at = await self._work_through(lane, waiting)
        if more is not None and again_at is None and not self._stopped:
            lane.top = max(lane.top, more)
        elif again_at is None and not self._stopped:
            now = self._context.clock()
            if lane.should_look(now):
                waiting = await self._late(lane)
                again_at = await self._work_through(lane, waiting)
                if not waiting:
                    lane.looked(now)
        elif again_at is not None:
            self._after = None
        now = self._context.clock()
        oldest = min((event.created_at for event in waiting if not event.has_status), default=None)
        soon = await self._give_back(lane, oldest or (more.partition("#")[0] if more else None))
        if self._stopped:
            return None
        if again_at is None and (more or soon):
            return now if more else now + SETTLE_SECONDS
        return again_at

    async def _give_back(self, lane: HeldLane, oldest: str | None) -> bool:
        accepted = lane.unwritten
        soon = await lane.release(self._context.clock(), oldest=oldest)
        self._counts.delivered += accepted
        return soon

    async def _write_lane(self, lane: HeldLane) -> None:
        accepted = lane.unwritten
        await lane.write(self._context.clock())
        self._counts.delivered += accepted

    async def _read(self, lane: HeldLane, now: float) -> tuple[deque[Event], str | None]:
        """Events to post in this order, and the position behind which there may be more of them."""
        ledger, owner = self._context.ledger, self.subscription.owner
        own, untouched = await asyncio.gather(
            ledger.pending(owner, now, self._after), ledger.untouched(owner, lane.top, timestamp(now - SETTLE_SECONDS))
        )
        shown = (*untouched.events, *own.events)
        # By the position: one that was deleted and posted anew has the same id, and is another event.
        found = {event.event_id: event for event in shown if event.position != lane.head}
        if lane.head is not None:
            # The indexes may not show yet that it was refused, or what became of it then.
            head = await ledger.event(lane.head.partition("#")[2])
            if head is not None and head.position == lane.head and head.status is Status.PENDING:
                found[head.event_id] = head
            else:
                lane.head = None
        end = min((page.last for page in (own, untouched) if page.last is not None), default=None)
        # Beyond the end of a page, events that come first may be missing: the next turn reads them again.
        events = [event for event in found.values() if end is None or event.position <= end]
        self._after = None if own.last is None else end
        return deque(sorted(events, key=lambda event: event.position)), end

    async def _late(self, lane: HeldLane) -> deque[Event]:
        """Events that appeared behind the top: the API took long to store them."""
        ledger, late = self._context.ledger, []
        listed = await lane.listed()
        page = Page([], lane.lane.marker)
        while page.last is not None and page.last < lane.top:
            page = await ledger.untouched(self.subscription.owner, page.last, lane.top)
            late += [event for event in page.events if event.position not in listed]
        return deque(late)

    async def _work_through(self, lane: HeldLane, waiting: deque[Event]) -> float | None:
        """Post events until one has to wait, and take them out of ``waiting``; when to go on, if one is left."""
        context = self._context
        # Not before they were read: however long that takes, one at least is posted.
        began = context.clock()
        while waiting and not self._stopped:
            now = context.clock()
            # Nothing overtakes the first one.
            if now >= context.until or waiting[0].free_at() > now or now - began > PAGE_SECONDS:
                return max(now, waiting[0].free_at())
            if lane.lane.lease_until - now < LEASE_SECONDS / 2:
                await self._write_lane(lane)
            if waiting[0].payload_key:
                await self._read_payloads(waiting)
                continue
            if waiting[0].has_status or waiting[0].position == lane.head:
                again_at = await self._post_claimed(lane, waiting, now)
            else:
                again_at = await self._post_untouched(lane, waiting)
            if again_at is not None:
                return again_at
        return None

    async def _read_payloads(self, waiting: deque[Event]) -> None:
        """Read the payloads of the first few, and take out those that are gone."""
        first: list[Event] = []
        while waiting and len(first) < GROUP and sum(event.payload_bytes for event in first) < READ_AHEAD_BYTES:
            first.append(waiting.popleft())
        waiting.extendleft(reversed(await self._context.ledger.with_payloads(first)))

    async def _post_untouched(self, lane: HeldLane, waiting: deque[Event]) -> float | None:
        """Post the first one, and note it in the lane if it was accepted; when to go on if it was not."""
        context, event = self._context, waiting[0]
        attempt = await self._post(event, lane.lane.lease_until)
        if attempt is None:
            return context.clock()
        now = context.clock()
        if attempt.response.accepted and event.position > lane.top:
            waiting.popleft()
            lane.note(outcome(event, attempt.ended_at, attempt.response.status or 0, attempt.seconds), now)
            if lane.unwritten >= MAX_AT_ONCE or lane.seconds_unwritten(now) >= UNWRITTEN_SECONDS:
                await self._write_lane(lane)
            return None
        update = await self._update(event, attempt)
        # The lane first, which only its worker can write. Whoever finds its head without a status of its own claims it,
        # so that a worker that was held up here changes nothing either.
        lane.note(Entry(event.position), now)
        lane.head = event.position
        await self._write_lane(lane)
        conflict = await context.changes.write(update.change)
        self._count(update, conflict)
        waiting.popleft()
        changed = conflict.pending if conflict else None
        if changed is not None and changed.position == event.position:
            return max(changed.free_at(), now)
        if conflict is not None or update.again_at is None:
            lane.head = None
        return update.again_at if conflict is None else None

    async def _post_claimed(self, lane: HeldLane, waiting: deque[Event], now: float) -> float | None:
        """Claim the first one, and post it and a few behind it; when to go on if one was not accepted."""
        context = self._context
        change, first = claim(waiting[0], context.worker, int(lane.lane.lease_until))
        conflict = await context.changes.write(change)
        if conflict is not None and conflict.pending is not None:
            # By then the index shows it as it is.
            return max(conflict.pending.free_at(), now + SETTLE_SECONDS)
        waiting.popleft()
        if conflict is not None:
            return None
        behind = self._take_behind(waiting, now)
        again_at = await self._post_all(first, behind)
        waiting.extendleft(reversed(behind))
        return again_at

    def _take_behind(self, waiting: deque[Event], now: float) -> deque[Event]:
        """Take what may be posted under the first one's claim."""
        found: deque[Event] = deque()
        while (
            waiting
            and len(found) < self._at_once - 1
            and waiting[0].has_status
            and waiting[0].free_at() <= now
            and not waiting[0].payload_key
        ):
            found.append(waiting.popleft())
        return found

    async def _post_all(self, first: Event, behind: deque[Event]) -> float | None:
        """Post one after the other, writing each outcome while the next is on its way, and the first one's in the end.

        What is not posted, as one before failed, is left in ``behind``. The first one is as claimed. Returns when to
        look at the queue again, if one was not accepted or another worker has it; None if all are settled.
        """
        began, again_at, accepted = self._context.clock(), None, True
        update_of_first = EventUpdate(release(first))
        writes: list[asyncio.Task[float | None]] = []
        event = first
        while True:
            attempt = await self._post(event, first.lease_until)
            if attempt is None:
                again_at, accepted = self._context.clock(), False
                break
            update = await self._update(event, attempt)
            if event is first:
                update_of_first = update
            else:
                writes.append(asyncio.create_task(self._write(update)))
            accepted = attempt.response.accepted
            if not accepted or not behind or self._stopped:
                break
            event = behind.popleft()
        times = [*await asyncio.gather(*writes), await self._write(update_of_first), again_at]
        quick = self._context.clock() - began <= QUICK_SECONDS
        self._at_once = min(2 * self._at_once, MAX_AT_ONCE) if quick else max(1, self._at_once // 2)
        if not accepted:
            self._at_once = 1
        return max((at for at in times if at is not None), default=None)

    async def _post(self, event: Event, lease_until: float) -> Attempt | None:
        """Post once; None if the lease might end before the post does."""
        async with self._context.permits:
            began = self._context.clock()
            if began + POST_SECONDS + SKEW_SECONDS > lease_until:
                return None
            self._counts.attempts += 1
            response = await self._send(event, began)
            now = self._context.clock()
            attempt = Attempt(response, now, max(0.0, now - began))
            self._stop_if_slow(attempt)
            return attempt

    async def _send(self, event: Event, now: float) -> WebhookResponse:
        try:
            before = self.subscription.secret_before(now)
            request = signed_request(event, self.subscription.secret, now, before=before)
        except ValueError as error:
            return WebhookResponse(None, Failure(None, str(error), retryable=True))
        try:
            return await self._endpoint.post(request.body, request.headers)
        except Exception as error:  # noqa: BLE001 - whatever a foreign server causes must not stop other queues
            log.warning("the endpoint of %s raised %s", self.subscription.owner, type(error).__name__)
            reason = f"connection failed: {type(error).__name__}"
            return WebhookResponse(None, Failure(None, reason, retryable=True))

    def _stop_if_slow(self, attempt: Attempt) -> None:
        slow = attempt.seconds > SLOW_SECONDS
        self._slow_seconds = self._slow_seconds + attempt.seconds if slow else 0.0
        if self._slow_seconds >= SLOW_QUEUE_SECONDS or (slow and not attempt.response.accepted):
            self._stopped = True

    async def _update(self, event: Event, attempt: Attempt) -> EventUpdate:
        """What to write of an attempt. A dead letter is sent before that, and a webhook that is gone turned off."""
        context, response = self._context, attempt.response
        payload = event.payload.encode()
        log.info(
            "event %s (version %d) of %s %s at attempt %d: %d bytes, sha256 %s",
            event.event_id,
            event.version,
            event.owner,
            "delivered" if response.accepted else f"not accepted ({attempt.error})",
            event.attempts + 1,
            len(payload),
            hashlib.sha256(payload).hexdigest(),
        )
        if response.accepted:
            return EventUpdate(delivered(event, attempt))
        if response.status == HTTPStatus.GONE:
            self._stopped = True
            # If that fails, the next post is answered so again.
            reason = "the receiver answered 410 Gone"
            await context.succeeds(context.subscriptions.turn_off, self.subscription, reason, attempt.ended_at)
        if event.attempts + 1 < context.max_attempts:
            return EventUpdate(*retry(event, attempt))
        letter = DeadLetter.of(event, attempt)
        # Without a message the event is failed all the same, and the run's alert reports both: a broken queue must
        # neither have the event posted for ever nor hold up the owner's other events.
        queued = await context.succeeds(context.dead_letters.send, letter)
        return EventUpdate(failed(event, attempt), dead_letter=letter, queued=queued)

    async def _write(self, update: EventUpdate) -> float | None:
        """Write an update; when to look at the queue again, if the event is to be posted again."""
        conflict = await self._context.changes.write(update.change)
        self._count(update, conflict)
        if conflict is None:
            return update.again_at
        if conflict.pending is None:
            return None
        return max(conflict.pending.free_at(), self._context.clock() + SETTLE_SECONDS)

    def _count(self, update: EventUpdate, conflict: Conflict | None) -> None:
        if conflict is not None:
            # Acknowledged, replayed or deleted meanwhile, or another worker has taken over.
            self._counts.lost += 1
            log.info("%s was posted, but has been changed meanwhile", update.change.event_id)
            return
        self._counts.count(update.change)
        if update.dead_letter is not None:
            self._counts.dead.append(update.dead_letter)
            self._counts.unqueued += not update.queued
