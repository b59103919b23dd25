import json
import time
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from include.delivery.models import Event, timestamp
from include.delivery.owner_queue import signed_request
from include.delivery.subscriptions import ROTATION_SECONDS, Subscription
from tests.worlds.dynamodb import SECRET, event_item


def event(**changes: str) -> Event:
    return Event.of(event_item(7, created=1_767_225_600.5, **changes))


def test_payload_and_metadata_travel_as_they_were_stored() -> None:
    payload = '{"n":1.50,"big":123456789012345678901234567890.10,"t":"\\u00e9 é \\n"}'
    request = signed_request(event(payload=payload, metadata='{"a":1.0}'), SECRET, 1_767_225_601.9)
    assert request.body.decode() == (
        '{"id":"evt_000000000007","type":"order.placed","created_at":"2026-01-01T00:00:00.500Z",'
        f'"payload":{payload},"metadata":{{"a":1.0}}}}'
    )
    assert request.headers["Webhook-Id"] == "evt_000000000007"
    assert request.headers["Webhook-Timestamp"] == "1767225601"
    assert request.headers["Content-Type"] == "application/json"


def test_an_event_without_metadata_says_so() -> None:
    assert json.loads(signed_request(event(), SECRET, 0.0).body)["metadata"] is None


@given(st.dictionaries(st.text(), st.text() | st.floats(allow_nan=False)))
def test_receivers_can_verify_what_they_get(payload: dict[str, object]) -> None:
    request = signed_request(event(payload=json.dumps(payload, ensure_ascii=False)), SECRET, time.time())
    assert Webhook(SECRET).verify(request.body, request.headers)["payload"] == payload


@pytest.mark.parametrize(
    ("before", "after", "verified"),
    [
        (SECRET, 0, True),
        (SECRET, ROTATION_SECONDS - 1, True),
        (SECRET, ROTATION_SECONDS, False),
        ("whsec_*", 0, False),
        ("whsec_é", 0, False),
    ],
)
def test_for_a_day_after_a_rotation_either_secret_verifies(before: str, after: float, verified: bool) -> None:
    now, new = time.time(), "whsec_" + 43 * "b" + "="
    item = {"owner": "acme", "url": "https://a.test", "secret": new, "previous_secret": before}
    item["rotated_at"] = timestamp(now - after)
    subscription = Subscription.of({name: {"S": value} for name, value in item.items()})
    request = signed_request(event(), subscription.secret, now, before=subscription.secret_before(now))
    assert Webhook(new).verify(request.body, request.headers)
    with nullcontext() if verified else pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body, request.headers)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_*", "whsec_pl4ntedé", "whsec_abcde"])
def test_a_secret_that_is_none_is_reported_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="the secret cannot be used") as refused:
        signed_request(event(), secret, 0.0)
    assert refused.value.__cause__ is None
    assert "pl4nted" not in str(refused.value)


def test_signature_is_not_in_the_representation_of_a_request() -> None:
    request = signed_request(event(), SECRET, 0.0)
    assert request.headers["Webhook-Signature"] not in repr(request)
