"""An event as an item of DynamoDB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lambdas.events_api.event import Event, Status

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

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
