"""The table of events."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.common.aws import error_code, may_pass
from lambdas.events_api.errors import NoSuchEventError, StoreUnavailableError
from lambdas.events_api.event import Event, Status
from lambdas.events_api.items import event_of, item_of, owner_status
from lambdas.events_api.store import Listing, Page

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

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
