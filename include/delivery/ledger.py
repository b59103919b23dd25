"""What the delivery keeps of an owner: one item, its lane, instead of a change of every event.

An event that was posted since a worker has had its owner's lane has no ``owner_status`` and no ``next_attempt_at``: it
is delivered if the lane says so, else pending. Whatever else happens to it (refused, acknowledged, replayed) is written
in the event, together with ``owner_status``: such an event has a status of its own, which holds whatever the lane says.
Events stored before have one from the beginning.

An event is delivered if its outcome is listed, in the lane's ``entries`` or in a batch. ``entries`` are the outcomes
of the last events. Those that no longer fit become a batch: an item of its own, in index ``by-owner-status`` under
``<owner>#lane`` at the position of its last event. Workers go on behind ``top``, the position of the last event that
one has taken note of.

The API counts in ``posts`` what it is about to store, and makes the lane due; the worker counts in ``settled`` what it
has taken note of. When both are equal, nothing is missing. Else the worker also looks behind ``top`` now and then, from
the ``marker`` on, which stays where it is until nothing is missing, or nothing has appeared for ``LOST_SECONDS``. The
marker never passes a ``top`` that the API may not have seen, and the API gives an event that would come behind ``top``
a status of its own: so none appears behind the marker, however slow the API is and whatever its clock says. See
``lambdas/events_api/lanes.py``.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from botocore.exceptions import ClientError

from include.clients.aws import aws_errors, error_code, unless
from include.clients.dynamodb import CONDITION_FAILED
from include.delivery.event_table import PAGE, SETTLE_SECONDS
from include.delivery.models import SKEW_SECONDS, Event, Status, seconds_of, timestamp
from include.errors import AwsUnavailableError

Call = Callable[..., Awaitable[Mapping[str, Any]]]
"""A call of DynamoDB: the operation's name in the API, and its parameters as boto3 takes them."""


LEASE_SECONDS = 60.0
"""How long a worker holds a lane; a killed worker's owners wait for so long."""

GRACE_SECONDS = 120.0
"""When a worker first looks for events that are missing after the last one was posted; and how far a marker stays
behind the clock, as an earlier version of the API does not compare positions with the top."""

LOST_SECONDS = 1800.0
"""How long events that were counted and are missing are looked for: most were withdrawn, or never stored. One that
appears later is pending until its owner replays it."""

LOOK_SECONDS = 30.0
"""How often, while events are posted, a worker looks behind the top of a lane for those that appeared late; less often
when it looks far back."""

_LOOKS_GROW = 5

MAX_ENTRIES = 25
"""Outcomes that a lane keeps: about a kilobyte."""

PAYLOAD_APART = 1
"""Form of events whose payload may be in an item of its own. The API writes it once a worker that reads it has had the
lane, so that either may be deployed first."""

_BATCHES_AT_ONCE = 20


@dataclass(frozen=True)
class Entry:
    """What a lane or a batch says of an event.

    Args:
        outcome: of an event that was accepted: when its post ended, in milliseconds since the epoch; HTTP status;
            milliseconds that it took. None: the event itself says what became of it.
    """

    position: str
    outcome: tuple[int, int, int] | None = None

    @cached_property
    def text(self) -> str:
        """As it is written, in about 40 bytes."""
        created, _, event_id = self.position.partition("#")
        created_ms = round(seconds_of(created) * 1000)
        parts = [f"{created_ms:x}", event_id.removeprefix("evt_")]
        if self.outcome:
            ended_ms, status, milliseconds = self.outcome
            parts += [f"{ended_ms - created_ms:x}", str(status), str(milliseconds)]
        return ".".join(parts)

    @classmethod
    def of(cls, text: str) -> Self:
        """What :attr:`text` wrote."""
        created, event_id, *outcome = text.split(".")
        created_ms = int(created, 16)
        position = f"{timestamp(created_ms / 1000)}#evt_{event_id}"
        if not outcome:
            return cls(position)
        after, status, milliseconds = outcome
        return cls(position, (created_ms + int(after, 16), int(status), int(milliseconds)))


def entries_of(item: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The entries of a lane or a batch."""
    return tuple(Entry.of(text) for text in item.get("entries", {"S": ""})["S"].split())


@dataclass(frozen=True)
class Lane:
    """An owner's lane as it was read or written last.

    Args:
        owner: whose.
        version: grows with every change of a worker, and is its fence; 0 if no worker has had the lane.
        posts: events that the API was about to store.
        settled: events that a worker has taken note of.
        posted_at: time of the last of these posts, seconds since the epoch.
        marker: see above.
        top: position of the last event that a worker has taken note of.
        entries: the last outcomes.
        batches: how many there are.
        head: position of the event that was refused last: what follows waits for it, if it is still pending.
        oldest: no event that waits was created before; None if none waits.
        looked_at: when a worker looked behind the top, seconds since the epoch.
        lease_owner: worker that has the lane.
        lease_until: end of its lease, seconds since the epoch.
    """

    owner: str
    version: int = 0
    posts: int = 0
    settled: int = 0
    posted_at: float = 0.0
    marker: str = ""
    top: str = ""
    entries: tuple[Entry, ...] = ()
    batches: int = 0
    head: str | None = None
    oldest: str | None = None
    looked_at: float = 0.0
    lease_owner: str | None = None
    lease_until: float = 0.0

    @classmethod
    def of(cls, item: Mapping[str, Any], entries: tuple[Entry, ...] | None = None) -> Self:
        """The lane of an item of the table; its entries need not be read if they are known."""

        def number(name: str) -> int:
            return int(item.get(name, {"N": "0"})["N"])

        def text(name: str) -> str | None:
            found: str | None = item.get(name, {"S": None})["S"]
            return found

        def time(name: str) -> float:
            found = text(name)
            return seconds_of(found) if found else 0.0

        return cls(
            owner=item["event_id"]["S"].partition("#")[2],
            version=number("version"),
            posts=number("posts"),
            settled=number("settled"),
            posted_at=time("posted_at"),
            marker=text("marker") or "",
            top=text("top") or text("marker") or "",
            entries=entries_of(item) if entries is None else entries,
            batches=number("batches"),
            head=text("head"),
            oldest=text("oldest"),
            looked_at=time("looked_at"),
            lease_owner=text("lease_owner"),
            lease_until=float(number("lease_until")),
        )


def lane_key(owner: str) -> str:
    """Key of an owner's lane in the table of events; no event has such an id."""
    return f"lane#{owner}"


class LaneLostError(Exception):
    """Another worker has the lane until then, seconds since the epoch: nothing was written."""

    def __init__(self, until: float) -> None:
        super().__init__(until)
        self.until = until


@dataclass(frozen=True)
class Page:
    """Events in their order, and the position behind which there may be more; None = there are no more."""

    events: list[Event]
    last: str | None


class Ledger:
    """The lanes of one table. Every method raises AwsUnavailableError if a retry may work, else AwsRefusedError.

    ``call`` makes calls of DynamoDB, and repeats those whose answer got lost.
    """

    def __init__(self, call: Call, table: str) -> None:
        self._call = call
        self._table = table

    async def take(self, owner: str, worker: str, now: float) -> HeldLane:
        """Get the lane for ``LEASE_SECONDS``; times in seconds since the epoch.

        No two workers have the same name. A lease holds until ``SKEW_SECONDS`` after its end.

        Raises:
            LaneLostError: another worker has it.
        """
        until = math.ceil(now + LEASE_SECONDS)
        request = {
            "UpdateExpression": "SET lease_owner = :me, lease_until = :until, "
            "version = if_not_exists(version, :zero) + :one, posts = if_not_exists(posts, :zero), "
            "marker = if_not_exists(marker, :floor), event_form = :form",
            "ConditionExpression": "attribute_not_exists(lease_owner) OR lease_until < :free",
            "ExpressionAttributeValues": {
                ":me": {"S": worker},
                ":until": {"N": str(until)},
                ":zero": {"N": "0"},
                ":one": {"N": "1"},
                ":floor": {"S": timestamp(now - GRACE_SECONDS)},
                ":free": {"N": str(math.floor(now - SKEW_SECONDS))},
                ":form": {"N": str(PAYLOAD_APART)},
            },
        }
        written, there = await self._update(owner, request)
        lane = Lane.of(there)
        if written or (lane.lease_owner == worker and lane.lease_until == until):
            if lane.version == 1:
                # What was posted until now has a status of its own.
                lane = replace(lane, settled=lane.posts)
            return HeldLane(self, lane, worker, now)
        raise LaneLostError(lane.lease_until)

    async def write(self, before: Lane, after: Lane, due: str | None, *, same_posts: bool) -> Lane | None:
        """Write what a worker noted in a lane that it has.

        Args:
            before: as it was read or written last.
            after: as it is to be; without a lease it is given back.
            due: when to look at it again; empty = when the API makes it due; None = as it is.
            same_posts: only if the API has not made it due since it was read.

        Returns:
            the lane; None if it was made due.

        Raises:
            LaneLostError: another worker has it.
        """
        values = {
            "settled": {"N": str(after.settled)},
            "marker": {"S": after.marker},
            "top": {"S": after.top},
            "entries": {"S": " ".join(entry.text for entry in after.entries)},
            "batches": {"N": str(after.batches)},
            "head": after.head and {"S": after.head},
            "looked_at": after.looked_at and {"S": timestamp(after.looked_at)},
            "lease_owner": after.lease_owner and {"S": after.lease_owner},
            "lease_until": after.lease_owner and {"N": str(int(after.lease_until))},
        }
        if due is not None:
            values["next_attempt_at"] = due and {"S": due}
        if not after.lease_owner:
            values["oldest"] = after.oldest and {"S": after.oldest}
        sets = {name: value for name, value in values.items() if value}
        removes = [name for name, value in values.items() if not value]
        request = {
            "UpdateExpression": f"SET version = :next, {', '.join(f'{name} = :{name}' for name in sets)}"
            + (f" REMOVE {', '.join(removes)}" if removes else ""),
            "ConditionExpression": "version = :seen AND lease_owner = :me" + " AND posts = :posts" * same_posts,
            "ExpressionAttributeValues": {
                **{f":{name}": value for name, value in sets.items()},
                ":seen": {"N": str(before.version)},
                ":next": {"N": str(before.version + 1)},
                ":me": {"S": before.lease_owner},
                **({":posts": {"N": str(before.posts)}} if same_posts else {}),
            },
        }
        written, there = await self._update(before.owner, request)
        lane = Lane.of(there, after.entries)
        # A call whose answer got lost was repeated, and met what it had written itself.
        if written or (lane.version, lane.lease_owner) == (before.version + 1, after.lease_owner):
            return lane
        if (lane.version, lane.lease_owner) == (before.version, before.lease_owner):
            return None
        raise LaneLostError(lane.lease_until)

    async def keep(self, lane: Lane) -> None:
        """Make a batch of the lane's entries, under its next number.

        Whoever has the lane next may have added entries to the same batch: it is then left as it is.
        """
        request = {
            "Item": {
                "event_id": {"S": _batch_key(lane.owner, lane.batches + 1)},
                "owner_status": {"S": f"{lane.owner}#lane"},
                "position": {"S": max(entry.position for entry in lane.entries)},
                "entries": {"S": " ".join(entry.text for entry in lane.entries)},
                "count": {"N": str(len(lane.entries))},
            },
            "ConditionExpression": "attribute_not_exists(event_id) OR #count < :count",
            "ExpressionAttributeNames": {"#count": "count"},
            "ExpressionAttributeValues": {":count": {"N": str(len(lane.entries))}},
        }
        with aws_errors("DynamoDB", f"write to table {self._table}"), unless(CONDITION_FAILED):
            await self._call("PutItem", TableName=self._table, **request)

    async def listed(self, lane: Lane) -> set[str]:
        """The positions behind the marker that entries or batches list, read consistently."""
        found = {entry.position for entry in lane.entries}
        last = lane.batches
        while last > 0:
            first = max(1, last - _BATCHES_AT_ONCE + 1)
            items = await self._get([_batch_key(lane.owner, number) for number in range(first, last + 1)])
            entries = [entry for item in items for entry in entries_of(item)]
            found |= {entry.position for entry in entries}
            # What was accepted is listed in its order; what has no outcome may have appeared late, anywhere.
            if any(entry.outcome and entry.position <= lane.marker for entry in entries):
                break
            last = first - 1
        return found

    async def event(self, event_id: str) -> Event | None:
        """An event, read consistently; None if it is gone."""
        items = await self._get([event_id])
        return Event.of(items[0]) if items else None

    async def with_payloads(self, events: Sequence[Event]) -> list[Event]:
        """Events with their payloads, read consistently, but for those that were deleted."""
        keys = [event.payload_key for event in events if event.payload_key]
        items = {item["event_id"]["S"]: item for item in await self._get(keys)}
        return [
            event.with_payload(items[event.payload_key]) if event.payload_key else event
            for event in events
            if not event.payload_key or event.payload_key in items
        ]

    async def pending(self, owner: str, now: float, after: str | None) -> Page:
        """An owner's events that are pending by their own status, as the index has them: it may be a moment late.

        Those behind a position; not those that are younger than ``SETTLE_SECONDS`` at ``now``, in seconds since the
        epoch.
        """
        key, until = f"{owner}#{Status.PENDING}", timestamp(now - SETTLE_SECONDS)
        return await self._page("by-owner-status", "owner_status", key, after, until)

    async def untouched(self, owner: str, after: str, until: str) -> Page:
        """An owner's events without a status of their own behind one position, up to another, as the index has them."""
        page = await self._page("by-owner", "owner", owner, after, until)
        # Most have none: a filter would cost the table more than it saves.
        return Page([event for event in page.events if not event.has_status], page.last)

    async def _page(self, index: str, name: str, key: str, after: str | None, until: str) -> Page:
        request = {
            "TableName": self._table,
            "IndexName": index,
            "KeyConditionExpression": "#key = :key AND #position > :after",
            "ExpressionAttributeNames": {"#key": name, "#position": "position"},
            # A position begins with a digit of a year.
            "ExpressionAttributeValues": {":key": {"S": key}, ":after": {"S": after or "0"}},
            "Limit": PAGE,
        }
        with aws_errors("DynamoDB", f"read from table {self._table}"):
            answer = await self._call("Query", **request)
        events = [Event.of(item) for item in answer["Items"] if item["position"]["S"] <= until]
        last = answer.get("LastEvaluatedKey", {}).get("position", {}).get("S")
        return Page(events, last if last and last <= until else None)

    async def _get(self, keys: Sequence[str]) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        left: list[Any] = [{"event_id": {"S": key}} for key in keys]
        while left:
            request = {self._table: {"Keys": left, "ConsistentRead": True}}
            with aws_errors("DynamoDB", f"read from table {self._table}"):
                answer = await self._call("BatchGetItem", RequestItems=request)
            found += answer["Responses"].get(self._table, [])
            before, left = left, answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
            if len(left) == len(before):
                raise AwsUnavailableError(
                    f"cannot read from table {self._table}: DynamoDB answers for none of the keys"
                )
        return found

    async def _update(self, owner: str, request: Mapping[str, Any]) -> tuple[bool, Mapping[str, Any]]:
        """Whether a lane was changed, and the lane as it is then."""
        key = {"event_id": {"S": lane_key(owner)}}
        with aws_errors("DynamoDB", f"write to table {self._table}"):
            try:
                answer = await self._call(
                    "UpdateItem",
                    TableName=self._table,
                    Key=key,
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **request,
                )
            except ClientError as error:
                if error_code(error) not in CONDITION_FAILED:
                    raise
                refused: Any = error.response
                return False, refused.get("Item") or key
        return True, answer["Attributes"]


class HeldLane:
    """A lane that a worker has, as it was taken at ``now``, and what it has noted since it last wrote it.

    All times that are numbers are seconds since the epoch.
    """

    def __init__(self, ledger: Ledger, lane: Lane, worker: str, now: float) -> None:
        self._ledger = ledger
        self._worker = worker
        self._noted: list[Entry] = []
        self._since: float | None = None
        self._read_at = self._began = now
        # Where all is known up to the top, what is older than LOST_SECONDS and read in order then leaves nothing out.
        self._taken_at = now if lane.marker == lane.top else 0.0
        self._looked = False
        self.lane = lane
        self.top = lane.top
        self.head = lane.head
        self.unwritten = 0
        """How many accepted events it has noted since the last writing."""

    @property
    def complete(self) -> bool:
        """Whether every event that the API was about to store by the time of the last writing has been noted."""
        return self.lane.posts == self.lane.settled + len(self._noted)

    def should_look(self, now: float) -> bool:
        """Whether to look behind the top."""
        back = now - _time_of(self.lane.marker)
        pause = min(max(LOOK_SECONDS, back / _LOOKS_GROW), LOST_SECONDS / _LOOKS_GROW)
        over = now - self.lane.posted_at > GRACE_SECONDS
        return not self.complete and (over or now - self.lane.looked_at >= pause)

    def looked(self, now: float) -> None:
        """Take note that by then nothing was left behind the top."""
        self.lane = replace(self.lane, looked_at=now)
        self._looked = True

    def note(self, entry: Entry, now: float) -> None:
        """Take note of an event."""
        self._noted.append(entry)
        self.unwritten += entry.outcome is not None
        self.top = max(self.top, entry.position)
        self._since = now if self._since is None else self._since

    async def listed(self) -> set[str]:
        """The positions behind the marker that somebody has taken note of."""
        return await self._ledger.listed(self.lane) | {entry.position for entry in self._noted}

    def seconds_unwritten(self, now: float) -> float:
        """Since when the first of these waits."""
        return 0.0 if self._since is None else now - self._since

    async def write(self, now: float) -> None:
        """Write what was noted, and begin a new lease; raises LaneLostError if another worker has the lane."""
        until = math.ceil(now + LEASE_SECONDS)
        await self._write(now, None, lease_owner=self._worker, lease_until=float(until))

    async def release(self, now: float, *, oldest: str | None) -> bool:
        """Write what was noted, and give the lane back; raises LaneLostError if another worker has it.

        ``oldest`` is the time of creation of the first event that waits, if any does. Returns whether another turn
        makes sense soon: events may be there that the index did not show yet.
        """
        seconds = now - self.lane.posted_at
        due: str | None = ""
        if not self.complete and seconds < LOST_SECONDS:
            # What the API was about to store may still appear.
            pause = GRACE_SECONDS if seconds <= GRACE_SECONDS else min(_LOOKS_GROW * seconds, LOST_SECONDS)
            due = timestamp(self.lane.posted_at + pause)
        elif not self.complete and not self._looked:
            due = timestamp(now + GRACE_SECONDS)
        # What was posted since the events were read, or a moment before, is no late one, however long the turn took.
        if oldest or (due and self.lane.posted_at >= self._began - 2 * SETTLE_SECONDS):
            due = None
        given_back: dict[str, Any] = {"lease_owner": None, "lease_until": 0.0, "oldest": oldest}
        if due == "" and not oldest:
            given_back["settled"] = self.lane.posts
        if due is None or not await self._write(now, due, same_posts=True, **given_back):
            given_back.pop("settled", None)
            # What is older was read.
            given_back["oldest"] = oldest or timestamp(self._began - SETTLE_SECONDS)
            await self._write(now, None, **given_back)
            return True
        return False

    async def _write(self, now: float, due: str | None, *, same_posts: bool = False, **changes: Any) -> bool:
        lane, noted = self.lane, self._noted
        seldom = lane.looked_at if self._looked else self._taken_at
        known = self._read_at - GRACE_SECONDS if self.complete else seldom - LOST_SECONDS
        after = replace(
            lane,
            top=self.top,
            # Of the top that was there before: who counts an event after that, sees it.
            marker=max(lane.marker, min(lane.top, timestamp(max(0.0, known)))),
            head=self.head,
            settled=lane.settled + len(noted),
            entries=(*lane.entries, *noted),
        )
        if len(after.entries) > MAX_ENTRIES and noted and lane.entries:
            await self._ledger.keep(lane)
            after = replace(after, entries=tuple(noted), batches=lane.batches + 1)
        written = await self._ledger.write(lane, replace(after, **changes), due, same_posts=same_posts)
        if written is None:
            return False
        # The API may have made it due since it was read; that is looked at in the next turn.
        self.lane, self._read_at = written, now
        self._noted, self._since, self.unwritten = [], None, 0
        return True


def outcome(event: Event, ended_at: float, status: int, seconds: float) -> Entry:
    """What a lane says of an event that was accepted; times in seconds."""
    return Entry(event.position, (round(ended_at * 1000), status, round(seconds * 1000)))


def backlogs(items: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, tuple[int, str | None]]]:
    """Of each lane, its owner, how many events were not noted yet, and the time of creation of the oldest one."""
    for lane in map(Lane.of, items):
        yield lane.owner, (max(0, lane.posts - lane.settled), lane.oldest)


def _time_of(position: str) -> float:
    created, _, _ = position.partition("#")
    return seconds_of(created) if "T" in created else 0.0


def _batch_key(owner: str, number: int) -> str:
    return f"batch#{number}#{owner}"
