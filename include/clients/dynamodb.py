"""A DynamoDB table used in one way only: items that are replaced as a whole, if nobody else replaced them first."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import batched
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from include.clients.aws import aws_errors, error_code, unless
from include.errors import AwsUnavailableError, Backoff

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

_BATCH = 100
_BATCH_ATTEMPTS = 6
_PAUSES = Backoff(first=0.2, longest=5.0)
CONDITION_FAILED = frozenset({"ConditionalCheckFailedException"})
"""How a conditional write is refused."""

_OWN = frozenset({"pk", "sk", "version", "written_by"})
_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


def read_items(
    dynamodb: DynamoDBClient,
    table: str,
    keys: Iterable[Mapping[str, Any]],
    *,
    attempts: int,
    pauses: Backoff,
    sleep: Callable[[float], object],
) -> Iterator[dict[str, Any]]:
    """The items of some keys (with their types) that are there, read consistently, as boto3 gives them.

    After a read that did not answer for all of its keys there is a pause; it is given up when so many ``attempts`` in a
    row answered for none.
    """
    left, failures = list(keys), 0
    while left:
        group, left = left[:_BATCH], left[_BATCH:]
        request: Any = {table: {"Keys": group, "ConsistentRead": True}}
        with aws_errors("DynamoDB", f"read from table {table}"):
            answer: Any = dynamodb.batch_get_item(RequestItems=request)
        yield from answer["Responses"].get(table, ())
        again = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
        left = [*again, *left]
        failures = failures + 1 if len(again) == len(group) else 0
        if failures == attempts:
            raise AwsUnavailableError(f"cannot read from table {table}: DynamoDB answers for none of the keys")
        if again:
            sleep(pauses.seconds(failures + 1))


@dataclass(frozen=True)
class Item:
    """One item as it was read or written.

    Args:
        version: how often it was written; 0 = it is not there.
        content: texts, whole numbers, booleans, None, and lists and mappings of them.
    """

    pk: str
    sk: str
    version: int = 0
    content: Mapping[str, Any] = field(default_factory=dict)


class ItemTable:
    """Reads are consistent; a write succeeds only if the item is still the one that was read.

    Every method raises AwsUnavailableError, which may pass (a write may have taken place all the same), or
    AwsRefusedError. The boto3 client is safe to share between threads; the table's keys are ``pk`` and ``sk``.
    """

    def __init__(self, dynamodb: DynamoDBClient, name: str, *, sleep: Callable[[float], object] = time.sleep) -> None:
        self._dynamodb = dynamodb
        self._name = name
        self._sleep = sleep

    def get(self, pk: str, sk: str) -> Item:
        """The item under a key, of version 0 if there is none."""
        with aws_errors("DynamoDB", f"read from table {self._name}"):
            found = self._dynamodb.get_item(
                TableName=self._name, Key={"pk": {"S": pk}, "sk": {"S": sk}}, ConsistentRead=True
            )
        return _item(found["Item"]) if "Item" in found else Item(pk, sk)

    def get_many(self, keys: Iterable[tuple[str, str]]) -> Iterator[Item]:
        """The items that are there under many keys (partition and sort key, each once), in no order."""
        for some in batched(keys, _BATCH):
            wanted: Any = [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in some]
            for attempt in range(_BATCH_ATTEMPTS):
                if attempt:
                    self._sleep(_PAUSES.seconds(attempt))
                with aws_errors("DynamoDB", f"read from table {self._name}"):
                    found: Any = self._dynamodb.batch_get_item(
                        RequestItems={self._name: {"Keys": wanted, "ConsistentRead": True}}
                    )
                yield from map(_item, found["Responses"].get(self._name, ()))
                wanted = found.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys")
                if not wanted:
                    break
            else:
                raise AwsUnavailableError(
                    f"cannot read from table {self._name}: DynamoDB leaves keys of a group unread"
                )

    def query(self, pk: str, prefix: str = "") -> list[Item]:
        """All items of a partition whose sort keys begin with ``prefix``, in their order."""
        condition, values = "pk = :pk", {":pk": {"S": pk}}
        if prefix:
            condition, values = f"{condition} AND begins_with(sk, :prefix)", values | {":prefix": {"S": prefix}}
        with aws_errors("DynamoDB", f"read from table {self._name}"):
            pages = self._dynamodb.get_paginator("query").paginate(
                TableName=self._name,
                KeyConditionExpression=condition,
                ExpressionAttributeValues=values,
                ConsistentRead=True,
            )
            return [_item(found) for page in pages for found in page["Items"]]

    def replace(self, seen: Item, content: Mapping[str, Any]) -> Item | None:
        """Write ``content`` in place of the item as it was seen.

        Returns the item as it is now; None if it is not the one that was seen any more: nothing was written.
        """
        written = Item(seen.pk, seen.sk, seen.version + 1, content)
        # botocore repeats a write whose answer got lost: by its name we know it again.
        name = uuid.uuid4().hex
        own = {"pk": seen.pk, "sk": seen.sk, "version": written.version, "written_by": name}
        condition: Any = {"ConditionExpression": "attribute_not_exists(pk)"}
        if seen.version:
            condition = {
                "ConditionExpression": "version = :seen",
                "ExpressionAttributeValues": {":seen": {"N": str(seen.version)}},
            }
        with aws_errors("DynamoDB", f"write to table {self._name}"):
            try:
                self._dynamodb.put_item(
                    TableName=self._name,
                    Item={key: _serialize(value) for key, value in {**content, **own}.items()},
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **condition,
                )
            except ClientError as error:
                if error_code(error) not in CONDITION_FAILED:
                    raise
                there: Any = error.response.get("Item", {})
                return written if there.get("written_by") == {"S": name} else None
        return written

    def delete(self, seen: Item) -> None:
        """Delete the item, if it is still as it was seen."""
        with aws_errors("DynamoDB", f"delete an item of table {self._name}"), unless(CONDITION_FAILED):
            self._dynamodb.delete_item(
                TableName=self._name,
                Key={"pk": {"S": seen.pk}, "sk": {"S": seen.sk}},
                ConditionExpression="version = :seen",
                ExpressionAttributeValues={":seen": {"N": str(seen.version)}},
            )


def _item(found: Mapping[str, AttributeValueTypeDef]) -> Item:
    values = {name: _plain(_deserialize(value)) for name, value in found.items()}
    content = {name: value for name, value in values.items() if name not in _OWN}
    return Item(values["pk"], values["sk"], values["version"], content)


def _plain(value: Any) -> Any:
    """Whole numbers as ``int``: boto3 reads all numbers as ``Decimal``."""
    if isinstance(value, Decimal):
        return int(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value
