"""The table of subscriptions: which webhook gets an owner's events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from include.clients.aws import aws_errors, unless
from include.clients.dynamodb import CONDITION_FAILED, read_items
from include.delivery.models import timestamp
from include.errors import Backoff

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

log = logging.getLogger(__name__)

SWITCHED_OFF = "switched off by hand"

ROTATION_SECONDS = 86_400.0
"""So long after a secret was replaced posts are signed with the one before, too: receivers may still have that one."""

_ATTEMPTS = 5
_PAUSES = Backoff(first=0.1, jitter=0)


@dataclass(frozen=True)
class Subscription:
    """The webhook of an owner.

    Args:
        url: as the owner gave it.
        secret: what posts are signed with, ``whsec_`` and base64.
        previous_secret: the one before, if there was one.
        rotated_at: when it was replaced, ISO 8601 in UTC.
    """

    owner: str
    url: str
    secret: str = field(repr=False)
    previous_secret: str = field(default="", repr=False)
    rotated_at: str = ""

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Self:
        """The subscription of an item of the table."""
        previous, rotated_at = (item.get(name, {}).get("S", "") for name in ("previous_secret", "rotated_at"))
        return cls(item["owner"]["S"], item["url"]["S"], item["secret"]["S"], previous, rotated_at)

    def secret_before(self, now: float) -> str:
        """The secret with which posts are signed besides, at this time in seconds since the epoch; empty if none."""
        if self.previous_secret in ("", self.secret) or self.rotated_at <= timestamp(now - ROTATION_SECONDS):
            return ""
        return self.previous_secret


class Subscriptions:
    """One table. Every method raises AwsUnavailableError if a retry may work, else AwsRefusedError.

    The boto3 client is safe to share between threads; ``sleep`` as ``time.sleep``.
    """

    def __init__(self, dynamodb: DynamoDBClient, name: str, *, sleep: Callable[[float], object]) -> None:
        self._dynamodb = dynamodb
        self._name = name
        self._sleep = sleep

    def active(self, owners: Collection[str]) -> dict[str, Subscription]:
        """The active subscriptions of some owners, by owner, read consistently."""
        keys = [{"owner": {"S": owner}} for owner in dict.fromkeys(owners)]
        items = read_items(self._dynamodb, self._name, keys, attempts=_ATTEMPTS, pauses=_PAUSES, sleep=self._sleep)
        return {item["owner"]["S"]: Subscription.of(item) for item in items if _is_active(item)}

    def all_active(self) -> Iterator[str]:
        """Every owner with an active subscription."""
        request: dict[str, Any] = {"TableName": self._name}
        while True:
            with aws_errors("DynamoDB", f"read table {self._name}"):
                page: Any = self._dynamodb.scan(**request)
            yield from (item["owner"]["S"] for item in filter(_is_active, page["Items"]))
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def switch(self, owner: str, *, active: bool, now: float) -> bool:
        """Switch an owner's webhook on or off, as a person asks; returns whether the owner has one."""
        return self._switch(owner, None if active else SWITCHED_OFF, now, "attribute_exists(#url)", {})

    def turn_off(self, subscription: Subscription, reason: str, now: float) -> None:
        """Post to this webhook no more; nothing happens if the owner has named another meanwhile."""
        same = {":on": {"BOOL": True}, ":url": {"S": subscription.url}}
        if self._switch(subscription.owner, reason, now, "active = :on AND #url = :url", same):
            log.warning("the subscription of %s is off: %s", subscription.owner, reason)

    def _switch(self, owner: str, reason: str | None, now: float, condition: str, values: Mapping[str, Any]) -> bool:
        """Switch a webhook off for a reason, or on; returns whether the condition holds."""
        changed = " REMOVE deactivated_reason" if reason is None else ", deactivated_reason = :reason"
        with aws_errors("DynamoDB", f"write to table {self._name}"), unless(CONDITION_FAILED):
            self._dynamodb.update_item(
                TableName=self._name,
                Key={"owner": {"S": owner}},
                UpdateExpression=f"SET active = :active, updated_at = :now{changed}",
                ConditionExpression=condition,
                ExpressionAttributeNames={"#url": "url"},
                ExpressionAttributeValues={
                    ":active": {"BOOL": reason is None},
                    ":now": {"S": timestamp(now)},
                    **({} if reason is None else {":reason": {"S": reason}}),
                    **values,
                },
            )
            return True
        return False


def _is_active(item: Mapping[str, Any]) -> bool:
    # An item that somebody else wrote in another form costs only its owner.
    return item.get("active") == {"BOOL": True} and all("S" in item.get(name, {}) for name in ("url", "secret"))
