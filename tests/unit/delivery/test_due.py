from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.delivery.due import Due, select_due
from include.delivery.models import timestamp
from include.errors import AwsUnavailableError
from tests.worlds.events import START, DeliveryWorld


def select(world: DeliveryWorld, *, tasks: int = 4, **limits: Any) -> Due:
    return select_due(world.events, world.subscriptions, now=START, tasks=tasks, **limits)


def owners_of(due: Due) -> set[str]:
    found = [owner for share in due.shares for owner in share]
    assert len(found) == len(set(found)) == due.owners
    return set(found)


def test_nothing_due_is_no_share() -> None:
    world = DeliveryWorld()
    assert select(world) == Due((), 0, 0, 0.0)
    world.add(3, next_attempt_at=timestamp(START + 0.001))
    assert select(world) == Due((), 0, 0, 0.0)


@pytest.mark.parametrize("by_lane", [True, False])
def test_owners_with_due_events_and_a_webhook_are_found(by_lane: bool) -> None:
    world = DeliveryWorld(by_lane=by_lane)
    world.add(3, "due")
    world.add(2, "off", first=10)
    world.add(2, "none", first=20)
    world.add(2, "later", first=30, next_attempt_at=timestamp(START + 60))
    world.add(2, "bytes", first=40)
    world.tables.subscribe("off", active=False)
    world.tables.subscriptions["bytes"]["secret"] = {"B": b"whsec_"}
    del world.tables.subscriptions["none"]
    key = {"S": "evt_ofnoowner000"}
    world.tables.items[key["S"]] = {"event_id": key, "status": {"S": "pending"}, "next_attempt_at": {"S": "2000"}}
    due = select(world)
    assert owners_of(due) == {"due"}
    assert (due.events, due.oldest_seconds) == (3, pytest.approx(59.999, abs=0.0005)), "the age of the first of three"


@pytest.mark.parametrize("by_lane", [True, False])
def test_more_pages_than_one_are_read(by_lane: bool) -> None:
    world = DeliveryWorld(by_lane=by_lane)
    for number in range(30):
        world.add(3, f"owner-{number}", first=10 * number + 1)
    world.tables.page_size = 7
    due = select(world, max_pages=99)
    assert len(owners_of(due)) == 30
    assert due.events == 90
    assert world.tables.calls["query"] == (6 if by_lane else 14)


def test_events_that_nobody_wants_delivered_hide_nobody() -> None:
    world = DeliveryWorld()
    world.add(50, "inbox-only")
    world.tables.subscribe("inbox-only", active=False)
    for number in range(5):
        world.add(2, f"waiting-{number}", first=1000 + 10 * number)
    world.add(1, "later", first=2000, next_attempt_at=timestamp(START + 60))
    world.tables.page_size = 10
    due = select(world, max_pages=2)
    assert owners_of(due) == {f"waiting-{number}" for number in range(5)}


def test_of_too_many_owners_chance_decides() -> None:
    world = DeliveryWorld()
    for number in range(40):
        world.add(1, f"owner-{number}", first=number + 1)
    selected = [owners_of(select(world, max_owners=10)) for _ in range(30)]
    assert {len(owners) for owners in selected} == {10}
    assert len(set().union(*selected)) > 30


@given(st.dictionaries(st.sampled_from("abcdefghij"), st.integers(1, 30), min_size=1), st.integers(1, 6))
def test_shares_are_balanced(counts: dict[str, int], tasks: int) -> None:
    world = DeliveryWorld()
    for index, (owner, count) in enumerate(counts.items()):
        world.add(count, owner, first=100 * index + 1)
    due = select(world, tasks=tasks, events_per_task=1)
    assert owners_of(due) == set(counts)
    assert len(due.shares) == min(tasks, len(counts))
    loads = [sum(counts[owner] for owner in share) for share in due.shares]
    assert all(due.shares)
    assert max(loads) - min(loads) <= max(counts.values())


@pytest.mark.parametrize(
    ("owners", "events", "shares"), [(10, 1, 1), (10, 9, 1), (10, 10, 1), (10, 11, 2), (40, 5, 4), (21, 1, 3)]
)
def test_few_events_of_few_owners_are_one_share(owners: int, events: int, shares: int) -> None:
    world = DeliveryWorld()
    for number in range(owners):
        world.add(events if number == 0 else 1, f"owner-{number}", first=100 * number + 1)
    assert len(select(world, tasks=4, events_per_task=19, owners_per_task=10).shares) == shares


def test_keys_that_dynamodb_did_not_get_to_are_asked_for_again() -> None:
    world = DeliveryWorld()
    for number in range(30):
        world.add(1, f"owner-{number}", first=number + 1)
    due_owners = [f"owner-{number}" for number in range(30)]
    world.tables.page_size = 4
    assert set(world.subscriptions.active(due_owners)) == set(due_owners)
    world.tables.page_size = 0
    with pytest.raises(AwsUnavailableError):
        world.subscriptions.active(due_owners)


def test_what_a_subscription_keeps_secret_is_not_shown() -> None:
    world = DeliveryWorld()
    world.add(1)
    subscription = world.subscriptions.active(["acme"])["acme"]
    assert subscription.secret.startswith("whsec_")
    assert "whsec_" not in repr(subscription)


def test_a_webhook_that_was_replaced_is_not_turned_off() -> None:
    world = DeliveryWorld()
    world.add(1)
    old = world.subscriptions.active(["acme"])["acme"]
    world.tables.subscribe("acme", "https://new.test/hook")
    world.subscriptions.turn_off(old, "gone", START)
    assert "acme" in world.subscriptions.active(["acme"])
    world.subscriptions.turn_off(world.subscriptions.active(["acme"])["acme"], "gone", START)
    assert world.subscriptions.active(["acme"]) == {}
    # Turned off already: nothing more happens.
    world.subscriptions.turn_off(old, "gone", START)
