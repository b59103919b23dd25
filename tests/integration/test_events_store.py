"""The events API's tables and queue on the emulator: what the fakes only claim to do."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.events_api.errors import QueueUnavailableError, StoreUnavailableError
from lambdas.events_api.lanes import PAYLOAD_APART, lane_key
from lambdas.events_api.store import DeliveryQueue, EventStore, dynamodb_client, sqs_client
from lambdas.tools.subscriptions import SubscriptionTable
from lambdas.tools.tables import ToolError
from local.processes.layout import DUMMY_AWS_KEY, REGION
from tests.worlds.events import LATER, EventStoreContract, at_once, new_event

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

    from tests.integration.conftest import Aws

EVENTS, KEYS, SUBSCRIPTIONS = (f"{name}-of-this-test" for name in ("events", "api-keys", "subscriptions"))
INDEXES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "by-status": (
        "status",
        "next_attempt_at",
        {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["owner", "position"]},
    ),
    "by-owner": ("owner", "position", {"ProjectionType": "ALL"}),
    "by-owner-status": ("owner_status", "position", {"ProjectionType": "ALL"}),
    "by-idempotency-key": ("owner", "idempotency_key", {"ProjectionType": "KEYS_ONLY"}),
}
NOW = "2026-03-02T09:30:00.000Z"


def create_table(client: DynamoDBClient, name: str, key: str, indexes: dict[str, Any]) -> None:
    names = sorted({key, *(name for first, second, _ in indexes.values() for name in (first, second))})
    more: dict[str, Any] = {}
    if indexes:
        more["GlobalSecondaryIndexes"] = [
            {
                "IndexName": index,
                "KeySchema": [
                    {"AttributeName": first, "KeyType": "HASH"},
                    {"AttributeName": second, "KeyType": "RANGE"},
                ],
                "Projection": projection,
            }
            for index, (first, second, projection) in indexes.items()
        ]
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each in names],
        BillingMode="PAY_PER_REQUEST",
        **more,
    )


@pytest.fixture(scope="module")
def environment(aws: Aws) -> Iterator[None]:
    """What a function on the emulator has, and the tables."""
    for name, key, indexes in ((EVENTS, "event_id", INDEXES), (KEYS, "key_id", {}), (SUBSCRIPTIONS, "owner", {})):
        create_table(aws.dynamodb, name, key, indexes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", aws.endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", aws.account)
        patch.setenv("AWS_SECRET_ACCESS_KEY", DUMMY_AWS_KEY)
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        yield
    for name in (EVENTS, KEYS, SUBSCRIPTIONS):
        aws.dynamodb.delete_table(TableName=name)


@pytest.fixture(scope="module")
def dynamodb(environment: None) -> DynamoDBClient:
    """The functions' own client: botocore's, with their time-outs."""
    return dynamodb_client()


@pytest.fixture(scope="module")
def sqs(environment: None) -> SQSClient:
    return sqs_client()


@pytest.fixture
def store(dynamodb: DynamoDBClient) -> EventStore:
    return EventStore(dynamodb, EVENTS)


@pytest.fixture
def owner() -> str:
    return f"owner-{secrets.token_hex(6)}"


@pytest.fixture(params=[False, True], ids=["without a lane", "with a lane"])
def either_owner(dynamodb: DynamoDBClient, owner: str, request: pytest.FixtureRequest) -> str:
    """With a lane, large payloads are in items of their own."""
    if request.param:
        numbers = {"version": {"N": "1"}, "event_form": {"N": str(PAYLOAD_APART)}}
        dynamodb.put_item(TableName=EVENTS, Item={"event_id": {"S": lane_key(owner)}, **numbers})
    return owner


class TestOnTheEmulator(EventStoreContract):
    """The store does there what it does in memory."""

    @pytest.fixture
    def owner(self, either_owner: str) -> str:
        return either_owner


def test_what_is_not_there_is_named(dynamodb: DynamoDBClient, sqs: SQSClient, owner: str) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        EventStore(dynamodb, "no-such-table").put(new_event(owner))
    assert (caught.value.reasons, caught.value.worth_repeating) == (("ResourceNotFoundException",), False)
    with pytest.raises(QueueUnavailableError, match="NonExistentQueue"):
        DeliveryQueue(sqs, f"http://sqs.invalid/000000000000/no-such-{owner}").wake("evt_0123456789ab")


def test_subscription_is_put_shown_and_switched_off(dynamodb: DynamoDBClient, owner: str) -> None:
    table = SubscriptionTable(dynamodb, SUBSCRIPTIONS)
    for action in (table.get, lambda name: table.switch_off(name, NOW)):
        with pytest.raises(ToolError, match="has no subscription"):
            action(owner)
    (made,) = (secret for secret in at_once(lambda _: table.put(owner, "https://a.example", None, NOW)) if secret)
    assert table.put(owner, "https://b.example", None, NOW) is None
    table.switch_off(owner, LATER)
    assert table.get(owner) == {
        "owner": owner,
        "url": "https://b.example",
        "active": False,
        "updated_at": LATER,
        "deactivated_reason": "switched off by hand",
    }
    for _ in range(2):
        assert table.put(owner, "https://b.example", "whsec_given", NOW) is None
    shown = {"owner": owner, "url": "https://b.example", "active": True, "updated_at": NOW, "rotated_at": NOW}
    assert table.get(owner) == shown
    item = dynamodb.get_item(TableName=SUBSCRIPTIONS, Key={"owner": {"S": owner}})["Item"]
    assert (item["secret"], item["previous_secret"]) == ({"S": "whsec_given"}, {"S": made})
