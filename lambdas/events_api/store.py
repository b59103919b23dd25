"""The table of events, and the queue that wakes the delivery.

The table decides what is delivered; a message only says that something is due. The clients give up early enough that a
caller always gets an answer of this API.

Once the delivery has had an owner's lane, new events have no status of their own, but what the owner does to one gives
it one: see ``include/delivery/ledger.py``.

A write costs by the kilobyte, in the table and again in each index that copies the item. So a payload that makes more
than a kilobyte of it has an item of its own, which is in no index, once the owner's lane says that workers read it.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.common import aws
from lambdas.events_api.errors import NoSuchEventError, QueueUnavailableError, StoreUnavailableError
from lambdas.events_api.lanes import PAYLOAD_APART, Lane, Outcomes, batch_key, lane_key, outcomes_of
from lambdas.events_api.models import Event, Status

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, DeleteTypeDef
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

FILTER_SECONDS = 3.0
"""So long megabytes are read that hold no event of the type asked for, until the page is given as it is."""

CHUNK = 200
"""Events that are read at once when those of a status are looked for among all."""

MIN_SECRET_BYTES = 32
"""The stack makes 64; with an empty one, anybody could make the ids."""

MAX_ITEM_BYTES = 1024
"""Largest item with a payload in it."""

MAX_PAGE_BYTES = 1024 * 1024
"""Of payloads in a page, as Lambda passes on no more than 6 MB; but one is always given."""

LATEST_BATCHES = 20
"""Of an owner: more than a worker writes within a second, for which an index may be late."""

_READS = 3
"""Calls for the same keys, of which DynamoDB answers for some only."""

_FIELDS = tuple(field.name for field in fields(Event))

_MARK = (
    "SET #status = :lane, next_attempt_at = :minute, posted_at = :now, posts = if_not_exists(posts, :zero) + :one, "
    "oldest = if_not_exists(oldest, :now)"
)
"""Before an event is stored: so whoever looks at the lane once more later has seen all events."""


@dataclass(frozen=True)
class Listing:
    """Which of an owner's events, the newest or the oldest first.

    Those of a status, of a type, created at ``since`` or later, and created before ``until``; None = all.
    """

    status: Status | None
    newest_first: bool
    event_type: str | None = None
    since: str | None = None
    until: str | None = None


INBOX = Listing(Status.PENDING, newest_first=False)
"""What is still to be delivered, in the order in which it will be."""


@dataclass(frozen=True)
class Query:
    """Which part of a listing: up to ``limit`` events behind a position, of an event or not; None = the first."""

    listing: Listing
    after: str | None
    limit: int


@dataclass(frozen=True)
class Page:
    """A part of a listing, and the position behind which others may follow; None at the end.

    It has fewer events than asked for, or none, when they are large or few are of the type.
    """

    events: list[Event]
    last: str | None


def dynamodb_client() -> DynamoDBClient:
    """Three attempts of at most 2.5 seconds, and pauses of at most three between them. Every call may be repeated."""
    return cast("DynamoDBClient", aws.client("dynamodb", connect_seconds=0.5, read_seconds=2, attempts=3))


def sqs_client() -> SQSClient:
    """Two attempts of at most 1.5 seconds: a delivery that is not woken runs by its schedule."""
    return cast("SQSClient", aws.client("sqs", connect_seconds=0.5, read_seconds=1, attempts=2))


def secrets_client() -> SecretsManagerClient:
    """Two attempts of at most 1.5 seconds: the request may be sent again."""
    return cast("SecretsManagerClient", aws.client("secretsmanager", connect_seconds=0.5, read_seconds=1, attempts=2))


class IdSecret:
    """The secret, by name or ARN, that makes the ids of events with idempotency keys; read once, when it is needed."""

    def __init__(self, secrets: SecretsManagerClient, secret_id: str) -> None:
        self._secrets = secrets
        self._secret_id = secret_id
        self._value = b""

    def value(self) -> bytes:
        """The secret.

        Raises:
            StoreUnavailableError: it cannot be read, or is too short to be one; the next call reads it again.
        """
        if not self._value:
            try:
                value = self._secrets.get_secret_value(SecretId=self._secret_id).get("SecretString", "").encode()
            except (ClientError, BotoCoreError) as error:
                reason = f"secret of the event ids: {aws.error_code(error)}"
                raise StoreUnavailableError(reason, worth_repeating=aws.may_pass(error)) from None
            if len(value) < MIN_SECRET_BYTES:
                raise StoreUnavailableError("secret of the event ids: too short", worth_repeating=False)
            self._value = value
        return self._value


class EventStore:
    """One table of events. Every method raises StoreUnavailableError if the table fails.

    Those with an ``event_id`` raise NoSuchEventError if the owner has no event of this id. The client repeats calls by
    itself; ``clock`` gives seconds that only grow.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._clock = clock

    def put(self, event: Event) -> Event | None:
        """Store a new event, unless its id is taken: returns the event that has it, which is left as it is."""
        lane = self._mark(event.owner, event.created_at)
        item = item_of(event)
        # At a position that a worker has passed, as the function was slow or its clock is wrong, it might not be seen.
        if lane.in_use and event.status is Status.PENDING and event.position > lane.top:
            item = {name: value for name, value in item.items() if name not in ("owner_status", "next_attempt_at")}
        if lane.form >= PAYLOAD_APART and _size(item) > MAX_ITEM_BYTES:
            item = self._put_payload(item)
        # The client repeats a write whose answer got lost, and finds the id taken: by this we know our own.
        written_by: AttributeValueTypeDef = {"S": uuid.uuid4().hex}
        try:
            with _table_errors():
                self._dynamodb.put_item(
                    TableName=self._table,
                    Item={**item, "written_by": written_by},
                    ConditionExpression="attribute_not_exists(event_id)",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except _ConditionFailedError as refused:
            if refused.item.get("written_by") == written_by:
                return None
            self._delete_payload(item)
            there = event_of(refused.item)
            return self._applied(there.owner, lane, [refused.item])[0] if there.owner == event.owner else there
        return None

    def get(self, owner: str, event_id: str) -> Event:
        """The owner's event of this id, read consistently."""
        for event in self._with_payloads(self._applied(owner, *self._own(owner, event_id))):
            return event
        raise NoSuchEventError

    def of_key(self, owner: str, idempotency_key: str) -> Event | None:
        """The owner's first event with this key, whatever its id; None also when it was stored within the last second.

        What the index shows is read consistently: an event may be gone since.
        """
        with _table_errors():
            answer = self._dynamodb.query(
                TableName=self._table,
                IndexName="by-idempotency-key",
                KeyConditionExpression="#owner = :owner AND idempotency_key = :key",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues={":owner": {"S": owner}, ":key": {"S": idempotency_key}},
            )
        ids = [item["event_id"]["S"] for item in answer["Items"]]
        if not ids:
            return None
        items = self._items(*ids, lane_key(owner))
        lane = Lane.of(items.pop(lane_key(owner), {}))
        events = self._applied(owner, lane, [item for item in items.values() if item.get("owner") == {"S": owner}])
        return min(events, key=lambda event: event.position, default=None)

    def page(self, owner: str, query: Query) -> Page:
        """Some of the owner's events. What was changed within the last second may be missing."""
        page = self._listed(owner, query)
        left, events = MAX_PAGE_BYTES, page.events
        for number, event in enumerate(events):
            left -= _payload_bytes(event)
            if number and left < 0:
                page = Page(events[:number], events[number - 1].position)
                break
        return Page(self._with_payloads(page.events), page.last)

    def _listed(self, owner: str, query: Query) -> Page:
        """The same, of any size, without payloads that have items of their own."""
        lane, listing = None, query.listing
        if listing.status not in (Status.FAILED, Status.ACKNOWLEDGED):
            lane = Lane.of(self._items(lane_key(owner)).get(lane_key(owner), {}))
            lane = lane if lane.in_use or listing.status is None else None
        if lane is None or listing.status is not Status.PENDING:
            return self._page(owner, query, lane)
        # Pending by their own status, and by the lane: each in order.
        own = self._page(owner, query, None)
        later = replace(listing, since=max(listing.since or "0", lane.marker))
        untouched = self._page(owner, replace(query, listing=later), lane)
        return _merged(own, untouched, query)

    def _page(self, owner: str, query: Query, lane: Lane | None) -> Page:
        """A page of one index; the lane says what became of events without a status of their own, None = leave them
        out.
        """
        listing, after, limit = query.listing, query.after, query.limit
        index, key = "by-owner", ("owner", owner)
        if lane is None and listing.status:
            index, key = "by-owner-status", ("owner_status", owner_status(owner, listing.status))
        # A position begins with a digit, and with the time of creation.
        low, high = listing.since or "0", listing.until or ":"
        if after is not None:
            low, high = (low, after) if listing.newest_first else (max(low, after), high)
        if low > high:
            return Page([], None)
        filters, values = [], {}
        if listing.event_type is not None:
            filters.append("event_type = :event_type")
            values[":event_type"] = listing.event_type
        if lane and listing.status is Status.PENDING:
            filters.append("attribute_not_exists(owner_status)")
        elif lane and listing.status:
            filters.append("(attribute_not_exists(owner_status) OR owner_status = :owner_status)")
            values[":owner_status"] = owner_status(owner, listing.status)
        options: dict[str, Any] = {"ScanIndexForward": not listing.newest_first, "values": values}
        if filters:
            options["FilterExpression"] = " AND ".join(filters)
        if listing.event_type is None:
            # The one at `after` is none of the page's, and one more tells whether there are more.
            options["Limit"] = CHUNK if filters else limit + 2
        events: list[Event] = []
        began = self._clock()
        for items, last in self._query(index, key, low, high, **options):
            found = [event_of(item) for item in items] if lane is None else self._applied(owner, lane, items)
            wanted = (event for event in found if not listing.status or event.status is listing.status)
            events += [event for event in wanted if event.position != after]
            if len(events) > limit:
                return Page(events[:limit], events[limit - 1].position)
            full = sum(map(_payload_bytes, events)) > MAX_PAGE_BYTES
            if not filters or full or self._clock() - began >= FILTER_SECONDS:
                return Page(events, last)
        return Page(events, None)

    def _query(
        self, index: str, key: tuple[str, str], low: str, high: str, **options: Any
    ) -> Iterator[tuple[list[dict[str, AttributeValueTypeDef]], str | None]]:
        """Items of one index from position ``low`` to ``high``, page by page, each with the last one's if more follow.

        ``key`` is name and value of the index's partition key.
        """
        values = {":key": key[1], ":low": low, ":high": high, **options.pop("values", {})}
        request = {
            "TableName": self._table,
            "IndexName": index,
            "KeyConditionExpression": "#key = :key AND #position BETWEEN :low AND :high",
            "ExpressionAttributeNames": {"#key": key[0], "#position": "position"},
            "ExpressionAttributeValues": {name: {"S": text} for name, text in values.items()},
            **options,
        }
        while True:
            with _table_errors():
                answer = self._dynamodb.query(**request)
            last: Any = answer.get("LastEvaluatedKey")
            yield answer["Items"], last and last["position"]["S"]
            if last is None:
                return
            request["ExclusiveStartKey"] = last

    def _put_payload(self, item: Mapping[str, AttributeValueTypeDef]) -> dict[str, AttributeValueTypeDef]:
        """Store an event's payload; the event's item without it."""
        texts = {name: item[name] for name in ("payload", "metadata") if name in item}
        key: AttributeValueTypeDef = {"S": f"payload#{uuid.uuid4().hex}"}
        with _table_errors():
            self._dynamodb.put_item(TableName=self._table, Item={**texts, "event_id": key, "of": item["event_id"]})
        rest = {name: value for name, value in item.items() if name not in texts}
        return {**rest, "payload_key": key, "payload_bytes": _attribute(_size(texts))}

    def _delete_payload(self, item: Mapping[str, AttributeValueTypeDef]) -> None:
        """Delete the payload of an event that was not stored, if it has an item of its own."""
        if "payload_key" in item:
            with _table_errors():
                self._dynamodb.delete_item(TableName=self._table, Key={"event_id": item["payload_key"]})

    def _with_payloads(self, events: Sequence[Event]) -> list[Event]:
        """The events with their payloads, but for those that were deleted meanwhile."""
        keys = [event.payload_key for event in events if event.payload_key]
        items: dict[str, Any] = dict(self._items(*keys)) if keys else {}
        found = []
        for event in events:
            if not event.payload_key:
                found.append(event)
            elif event.payload_key in items:
                item = items[event.payload_key]
                texts = {name: item.get(name, {"S": None})["S"] for name in ("payload", "metadata")}
                found.append(replace(event, **texts, payload_key=None, payload_bytes=None))
        return found

    def _mark(self, owner: str, now: str) -> Lane:
        """Make the owner's lane due, and return it."""
        values: dict[str, AttributeValueTypeDef] = {
            ":lane": {"S": "lane"},
            ":now": {"S": now},
            # The index need not be written for each post.
            ":minute": {"S": f"{now[:17]}00.000Z"},
            ":zero": {"N": "0"},
            ":one": {"N": "1"},
        }
        with _table_errors():
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key={"event_id": {"S": lane_key(owner)}},
                UpdateExpression=_MARK,
                ExpressionAttributeNames={"#status": "status"},
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
            )
        return Lane.of(answer["Attributes"])

    def _own(self, owner: str, event_id: str) -> tuple[Lane, list[Mapping[str, AttributeValueTypeDef]]]:
        """The owner's lane, and the one item of the owner's event, read consistently."""
        items = self._items(event_id, lane_key(owner))
        item = items.get(event_id)
        if item is None or item.get("owner") != {"S": owner}:
            raise NoSuchEventError
        return Lane.of(items.get(lane_key(owner), {})), [item]

    def _items(self, *keys: str) -> dict[str, Mapping[str, AttributeValueTypeDef]]:
        """The items of some keys that are there, by key, read consistently."""
        found: dict[str, Mapping[str, AttributeValueTypeDef]] = {}
        left: list[Any] = [{"event_id": {"S": key}} for key in keys]
        for _ in range(_READS):
            with _table_errors():
                answer: Any = self._dynamodb.batch_get_item(
                    RequestItems={self._table: {"Keys": left, "ConsistentRead": True}}
                )
            found |= {item["event_id"]["S"]: item for item in answer["Responses"].get(self._table, [])}
            left = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
            if not left:
                return found
        raise StoreUnavailableError("ThrottlingException", worth_repeating=True)

    def _applied(self, owner: str, lane: Lane, items: Sequence[Mapping[str, AttributeValueTypeDef]]) -> list[Event]:
        """The events of items, as the lane says they are where they have no status of their own."""
        events = [(event_of(item), "owner_status" not in item) for item in items]
        unknown = [event.position for event, untouched in events if untouched and lane.needs_outcome(event)]
        outcomes = self._outcomes(owner, min(unknown), max(unknown), len(unknown)) if unknown else {}
        if lane.batches and not all(position in outcomes for position in unknown):
            # The index may not show the last batches yet.
            last = range(max(1, lane.batches - LATEST_BATCHES + 1), lane.batches + 1)
            for item in self._items(*(batch_key(owner, number) for number in last)).values():
                outcomes = {**outcomes, **outcomes_of(item)}
        return [lane.applied(event, outcomes) if untouched else event for event, untouched in events]

    def _outcomes(self, owner: str, first: str, last: str, count: int) -> Outcomes:
        """What the batches tell of events between two positions."""
        found: dict[str, Any] = {}
        # Each has at least one of them, but for those of events that are gone.
        for items, _ in self._query("by-owner-status", ("owner_status", f"{owner}#lane"), first, ":", Limit=count):
            for item in items:
                found |= outcomes_of(item)
            # What was accepted is listed in its order; what has no outcome may have appeared late, anywhere.
            if any(outcome and position >= last for position, outcome in found.items()):
                break
        return found

    def acknowledge(self, owner: str, event_id: str, at: str) -> None:
        """Let the owner's event be acknowledged, and not delivered any more. It keeps the time of the first time."""
        sets, unset = {"status": Status.ACKNOWLEDGED, "acknowledged_at": at}, "next_attempt_at"
        known = ("delivery_attempts", "last_status", "delivered_at", "attempts")
        try:
            self._update(owner, event_id, sets, unset, known, also=" AND #status <> :status")
        except _ConditionFailedError as refused:
            if refused.item.get("owner") != {"S": owner}:
                raise NoSuchEventError from None

    def replay(self, owner: str, event_id: str, at: str) -> Event:
        """Let the owner's event be pending again, as if it had never been tried, and return it as it is then."""
        sets = {"status": Status.PENDING, "next_attempt_at": at, "delivery_attempts": 0}
        unset = "last_status, last_error, first_failed_at, delivered_at, failed_at, acknowledged_at"
        try:
            return self._update(owner, event_id, sets, unset, ("attempts",))
        except _ConditionFailedError:
            raise NoSuchEventError from None

    def delete(self, owner: str, event_id: str) -> None:
        """Delete the owner's event. A call that failed may be repeated."""
        item = self._items(event_id).get(event_id)
        if item is None or item.get("owner") != {"S": owner}:
            raise NoSuchEventError
        event: DeleteTypeDef = {
            "TableName": self._table,
            "Key": {"event_id": {"S": event_id}},
            "ConditionExpression": "created_at = :created_at",
            "ExpressionAttributeValues": {":created_at": item["created_at"]},
        }
        # Refused if it is gone: the client repeats a call whose answer got lost, or the owner has called twice.
        with suppress(_ConditionFailedError), _table_errors():
            if "payload_key" not in item:
                self._dynamodb.delete_item(**event)
                return
            # Both or none: an event without its payload would be due for ever, and its key would still find it.
            payload: DeleteTypeDef = {"TableName": self._table, "Key": {"event_id": item["payload_key"]}}
            self._dynamodb.transact_write_items(TransactItems=[{"Delete": event}, {"Delete": payload}])

    def _update(
        self, owner: str, event_id: str, sets: Mapping[str, Any], unset: str, known: Sequence[str], also: str = ""
    ) -> Event:
        """Give the owner's event a status of its own, and return it as it is then.

        What of ``known`` the lane alone knows until now is written as well. The lease of a worker ends: what that
        worker writes of an older version is refused, and its lease would only make the next one wait. Raises
        _ConditionFailedError if the event is gone since it was read, or ``also`` does not hold.
        """
        lane, (item,) = self._own(owner, event_id)
        event = self._applied(owner, lane, [item])[0]
        new = {**sets, "owner_status": owner_status(owner, Status(sets["status"]))}
        if "owner_status" not in item and event.status is not Status.PENDING:
            new |= {name: value for name in known if (value := getattr(event, name)) is not None}
        changes = ", ".join(f"#{name} = :{name}" for name in new)
        with _table_errors():
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key={"event_id": {"S": event_id}},
                UpdateExpression=f"SET version = version + :one, {changes} REMOVE {unset}, lease_owner, lease_until",
                ConditionExpression=f"#owner = :owner{also}",
                ExpressionAttributeNames={f"#{name}": name for name in ("owner", *new)},
                ExpressionAttributeValues={
                    f":{name}": _attribute(value) for name, value in {**new, "owner": owner, "one": 1}.items()
                },
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        return event_of(answer["Attributes"])


def _merged(one: Page, other: Page, query: Query) -> Page:
    """One page of two listings in one order. Each index is late by itself; what both show is taken from the first."""
    limit, newest_first = query.limit, query.listing.newest_first
    found = {event.position: event for event in (*other.events, *one.events)}
    events = sorted(found.values(), key=lambda event: event.position, reverse=newest_first)
    # Beyond where one of them goes on, events may be missing.
    ends = [page.last for page in (one, other) if page.last is not None]
    if ends:
        end = max(ends) if newest_first else min(ends)
        events = [event for event in events if (event.position >= end if newest_first else event.position <= end)]
    if len(events) > limit:
        return Page(events[:limit], events[limit - 1].position)
    return Page(events, end if ends else None)


class DeliveryQueue:
    """The queue that wakes the delivery, by its URL."""

    def __init__(self, sqs: SQSClient, url: str) -> None:
        self._sqs = sqs
        self._url = url

    def wake(self, event_id: str) -> None:
        """Say that an event is due; raises QueueUnavailableError if the message may not have been sent."""
        try:
            self._sqs.send_message(QueueUrl=self._url, MessageBody=json.dumps({"event_id": event_id}))
        except (ClientError, BotoCoreError) as error:
            raise QueueUnavailableError(aws.error_code(error)) from None


def item_of(event: Event) -> dict[str, AttributeValueTypeDef]:
    """The item of an event, with the attributes that the indexes are made of; fields without a value are left out."""
    item = {name: _attribute(getattr(event, name)) for name in _FIELDS if getattr(event, name) is not None}
    item["position"] = {"S": event.position}
    item["owner_status"] = {"S": owner_status(event.owner, event.status)}
    return item


def event_of(item: Mapping[str, AttributeValueTypeDef]) -> Event:
    """The event of an item, without what the delivery keeps beside it."""
    values: dict[str, Any] = {name: _value(item[name]) for name in _FIELDS if name in item}
    absent = {"payload": "", "metadata": None, "idempotency_key": None}
    return Event(**{**absent, **values, "status": Status(values["status"])})


def owner_status(owner: str, status: Status) -> str:
    """Key of the index that holds an owner's events of one status together."""
    return f"{owner}#{status}"


def _payload_bytes(event: Event) -> int:
    """Bytes of an event's payload and metadata, wherever they are."""
    return event.payload_bytes or len(f"{event.payload}{event.metadata}".encode())


def _size(item: Mapping[str, AttributeValueTypeDef]) -> int:
    """Bytes of an item of texts and numbers, as DynamoDB counts them or a few more."""
    return sum(len(name) + len(str(_value(value)).encode()) for name, value in item.items())


def _attribute(value: str | int) -> AttributeValueTypeDef:
    return {"N": str(value)} if isinstance(value, int) else {"S": value}


def _value(attribute: AttributeValueTypeDef) -> str | int:
    return int(attribute["N"]) if "N" in attribute else attribute["S"]


class _ConditionFailedError(Exception):
    """A conditional write was refused; ``item`` is what is there, empty when there is nothing."""

    def __init__(self, item: Mapping[str, AttributeValueTypeDef]) -> None:
        super().__init__()
        self.item = item


@contextmanager
def _table_errors() -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError):
            answer: Mapping[str, Any] = error.response
            # Of a transaction, the members tell why it was refused.
            refused = any(
                reason["Code"] == "ConditionalCheckFailed" for reason in answer.get("CancellationReasons", ())
            )
            if refused or aws.error_code(error) == aws.CONDITION_FAILED:
                raise _ConditionFailedError(answer.get("Item", {})) from None
        raise StoreUnavailableError(aws.error_code(error), worth_repeating=aws.may_pass(error)) from None
