"""The table of events.

An event as an item of DynamoDB.

What the API asks of whatever keeps the events.

Clients of the table and the queue: quick enough to give up that a caller always gets an answer of ours.

The queue that wakes the delivery: the table decides what is delivered, a message only says that something is due.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, cast

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lambdas.common.aws import error_code, may_pass
from lambdas.events_api.errors import NoSuchEventError, QueueUnavailableError, StoreUnavailableError
from lambdas.events_api.models import Event, Status

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef
    from mypy_boto3_sqs import SQSClient

_FIELDS = tuple(field.name for field in fields(Event))


def item_of(event: Event) -> dict[str, AttributeValueTypeDef]:
    """The item of an event, with the attributes that the indexes are made of; what the event has not is left out."""
    item = {name: _attribute(getattr(event, name)) for name in _FIELDS if getattr(event, name) is not None}
    item["position"] = {"S": event.position}
    item["owner_status"] = {"S": owner_status(event.owner, event.status)}
    return item


def event_of(item: Mapping[str, AttributeValueTypeDef]) -> Event:
    """The event of an item; what others keep beside it in the item is theirs."""
    values: dict[str, Any] = {name: _value(item[name]) for name in _FIELDS if name in item}
    return Event(**{"metadata": None, "idempotency_key": None, **values, "status": Status(values["status"])})


def owner_status(owner: str, status: Status) -> str:
    """Key of the index that holds an owner's events of one status together."""
    return f"{owner}#{status}"


def _attribute(value: str | int) -> AttributeValueTypeDef:
    return {"N": str(value)} if isinstance(value, int) else {"S": value}


def _value(attribute: AttributeValueTypeDef) -> str | int:
    return int(attribute["N"]) if "N" in attribute else attribute["S"]


@dataclass(frozen=True)
class Listing:
    """Which of an owner's events, in which order.

    Args:
        status: only those of this status; None = all.
        newest_first: else the oldest come first.
    """

    status: Status | None
    newest_first: bool


INBOX = Listing(Status.PENDING, newest_first=False)
"""What is still to be delivered, in the order in which it will be."""


@dataclass(frozen=True)
class Page:
    """A part of a listing.

    Args:
        events: at most as many as were asked for; fewer when they are large.
        more: others follow.
    """

    events: list[Event]
    more: bool


class EventStore(Protocol):
    """Keeps events. Every method raises StoreUnavailableError when it cannot do what it says."""

    def put(self, event: Event) -> Event | None:
        """Keep a new event, unless its id is taken.

        Returns:
            None when it is kept; else the event that has the id, which is left as it is.
        """

    def get(self, owner: str, event_id: str) -> Event:
        """The owner's event of this id, as it is now.

        Raises:
            NoSuchEventError: the owner has none.
        """

    def page(self, owner: str, listing: Listing, *, after: str | None, limit: int) -> Page:
        """Some of the owner's events. What was changed within the last second may be missing.

        Args:
            owner: whose.
            listing: which, and in which order.
            after: position behind which it begins, whether or not an event is there; None = at the beginning.
            limit: at most so many.
        """

    def acknowledge(self, owner: str, event_id: str, at: str) -> None:
        """Let the owner's event be acknowledged, and not delivered any more. It keeps the time of the first time.

        Raises:
            NoSuchEventError: the owner has none of this id.
        """

    def replay(self, owner: str, event_id: str, at: str) -> Event:
        """Let the owner's event be pending again, as if it had never been tried, and return it as it is then.

        Raises:
            NoSuchEventError: the owner has none of this id.
        """

    def delete(self, owner: str, event_id: str) -> None:
        """Forget the owner's event.

        Raises:
            NoSuchEventError: the owner has none of this id.
        """


_ACKNOWLEDGE = (
    "SET #status = :status, owner_status = :owner_status, acknowledged_at = :at, version = version + :one "
    "REMOVE next_attempt_at, lease_owner, lease_until"
)
_REPLAY = (
    "SET #status = :status, owner_status = :owner_status, next_attempt_at = :at, version = version + :one, "
    "delivery_attempts = :zero REMOVE last_status, last_error, first_failed_at, delivered_at, failed_at, "
    "acknowledged_at, lease_owner, lease_until"
)
"""Each change takes the event away from a worker that holds it: what the worker then notes of an older version is
refused, and its lease would only make the next one wait."""


class _ConditionFailedError(Exception):
    """A conditional write was refused.

    Args:
        item: what is there; empty when there is nothing.
    """

    def __init__(self, item: Mapping[str, AttributeValueTypeDef]) -> None:
        super().__init__()
        self.item = item


@contextmanager
def _table_errors() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error_code(error) == "ConditionalCheckFailedException":
            answer: Mapping[str, Any] = error.response
            raise _ConditionFailedError(answer.get("Item", {})) from None
        raise StoreUnavailableError(error_code(error), worth_repeating=may_pass(error)) from None
    except BotoCoreError as error:
        raise StoreUnavailableError(error_code(error), worth_repeating=may_pass(error)) from None


class DynamoEventStore:
    """An :class:`lambdas.events_api.store.EventStore` of one table.

    Args:
        dynamodb: a client that repeats calls by itself.
        table: its name.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def put(self, event: Event) -> Event | None:
        """Keep a new event, unless its id is taken."""
        # The client repeats a write whose answer got lost, and finds the id taken: by this we know our own.
        written_by: AttributeValueTypeDef = {"S": uuid.uuid4().hex}
        try:
            with _table_errors():
                self._dynamodb.put_item(
                    TableName=self._table,
                    Item={**item_of(event), "written_by": written_by},
                    ConditionExpression="attribute_not_exists(event_id)",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except _ConditionFailedError as refused:
            return None if refused.item.get("written_by") == written_by else event_of(refused.item)
        return None

    def get(self, owner: str, event_id: str) -> Event:
        """The owner's event of this id, as it is now."""
        with _table_errors():
            found = self._dynamodb.get_item(
                TableName=self._table, Key={"event_id": {"S": event_id}}, ConsistentRead=True
            )
        if "Item" not in found or found["Item"]["owner"] != {"S": owner}:
            raise NoSuchEventError
        return event_of(found["Item"])

    def page(self, owner: str, listing: Listing, *, after: str | None, limit: int) -> Page:
        """Some of the owner's events: DynamoDB reads at most 1 MB of them for a page."""
        index, key, value = "by-owner", "owner", owner
        if listing.status:
            index, key, value = "by-owner-status", "owner_status", owner_status(owner, listing.status)
        condition, names, values = "#key = :key", {"#key": key}, {":key": {"S": value}}
        if after is not None:
            # Not ExclusiveStartKey, which would have to be the whole key of an event.
            condition += f" AND #position {'<' if listing.newest_first else '>'} :after"
            names["#position"], values[":after"] = "position", {"S": after}
        with _table_errors():
            answer = self._dynamodb.query(
                TableName=self._table,
                IndexName=index,
                KeyConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
                ScanIndexForward=not listing.newest_first,
                # One more tells whether there are more.
                Limit=limit + 1,
            )
        events = [event_of(item) for item in answer["Items"]]
        return Page(events[:limit], more=len(events) > limit or "LastEvaluatedKey" in answer)

    def acknowledge(self, owner: str, event_id: str, at: str) -> None:
        """Let the owner's event be acknowledged; it keeps the time of the first time."""
        try:
            self._update(event_id, _ACKNOWLEDGE, owner, Status.ACKNOWLEDGED, at, unless=" AND #status <> :status")
        except _ConditionFailedError as refused:
            if refused.item.get("owner") != {"S": owner}:
                raise NoSuchEventError from None

    def replay(self, owner: str, event_id: str, at: str) -> Event:
        """Let the owner's event be pending again."""
        try:
            return self._update(event_id, _REPLAY, owner, Status.PENDING, at, zero=0)
        except _ConditionFailedError:
            raise NoSuchEventError from None

    def delete(self, owner: str, event_id: str) -> None:
        """Forget the owner's event."""
        try:
            with _table_errors():
                self._dynamodb.delete_item(
                    TableName=self._table,
                    Key={"event_id": {"S": event_id}},
                    ConditionExpression="#owner = :owner",
                    ExpressionAttributeNames={"#owner": "owner"},
                    ExpressionAttributeValues={":owner": {"S": owner}},
                )
        except _ConditionFailedError:
            raise NoSuchEventError from None

    def _update(
        self, event_id: str, change: str, owner: str, status: Status, at: str, *, unless: str = "", **numbers: int
    ) -> Event:
        """Change an event if it is the owner's, and return it as it is then.

        Raises:
            _ConditionFailedError: it is not, or ``unless`` does not hold.
        """
        texts = {"owner": owner, "status": status, "owner_status": owner_status(owner, status), "at": at}
        values: dict[str, AttributeValueTypeDef] = {f":{name}": {"S": text} for name, text in texts.items()}
        values |= {f":{name}": {"N": str(number)} for name, number in {"one": 1, **numbers}.items()}
        with _table_errors():
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key={"event_id": {"S": event_id}},
                UpdateExpression=change,
                ConditionExpression=f"#owner = :owner{unless}",
                ExpressionAttributeNames={"#owner": "owner", "#status": "status"},
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        return event_of(answer["Attributes"])


# botocore's, not boto3's: the same calls, and less to import during a cold start. One session reads its files once.
_session = botocore.session.get_session()


def dynamodb_client() -> DynamoDBClient:
    """Three tries of at most 2.5 seconds, and pauses of at most three between them. Every call may be repeated."""
    config = Config(connect_timeout=0.5, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 3})
    return cast("DynamoDBClient", _session.create_client("dynamodb", config=config))


def sqs_client() -> SQSClient:
    """Two tries of at most 1.5 seconds: who cannot be woken within that wakes by himself later."""
    config = Config(connect_timeout=0.5, read_timeout=1, retries={"mode": "standard", "total_max_attempts": 2})
    return cast("SQSClient", _session.create_client("sqs", config=config))


class DeliveryQueue(Protocol):
    """Wakes the delivery."""

    def wake(self, event_id: str) -> None:
        """Say that an event is due.

        Raises:
            QueueUnavailableError: it may not have been heard.
        """


class SqsDeliveryQueue:
    """A :class:`DeliveryQueue` of SQS.

    Args:
        sqs: a client.
        url: of the queue.
    """

    def __init__(self, sqs: SQSClient, url: str) -> None:
        self._sqs = sqs
        self._url = url

    def wake(self, event_id: str) -> None:
        """Say that an event is due."""
        try:
            self._sqs.send_message(QueueUrl=self._url, MessageBody=json.dumps({"event_id": event_id}))
        except (ClientError, BotoCoreError) as error:
            raise QueueUnavailableError(error_code(error)) from None
