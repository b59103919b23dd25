"""The table of events: groups of conditional changes, and what happens to their answers."""

import pytest

from include.delivery.event_table import MAX_FAILED_PAGES, PAGE, SETTLE_SECONDS
from include.delivery.models import Conflict, Event, Status, claim, timestamp
from include.errors import AwsRefusedError, AwsUnavailableError
from tests.worlds.dynamodb import event_item, table_error
from tests.worlds.events import START, DeliveryWorld
from tests.worlds.s3 import raising


def claims(world: DeliveryWorld, worker: str = "me") -> list[Conflict | None]:
    changes = [claim(Event.of(item), worker, 9)[0] for item in list(world.tables.events.values())]
    return world.events.change(changes)


def test_changes_of_a_group_are_made_or_refused_one_by_one() -> None:
    world = DeliveryWorld(by_lane=False)
    world.add(4)
    stale = world.events.pending("acme", START)
    world.tables.change(1, status="delivered", next_attempt_at=None)
    world.tables.change(2, lease_owner="other", lease_until=99)
    del world.tables.items["evt_000000000003"]
    results = world.events.change([claim(event, "me", 9)[0] for event in stale])
    assert [result is None for result in results] == [False, False, False, True]
    first, second, third, _ = results
    assert first.now.status is Status.DELIVERED
    assert second.now.lease_owner == "other"
    assert third == Conflict(None)
    assert world.tables.plain(4)["lease_owner"] == "me"
    assert world.tables.plain(4)["version"] == 2


def test_a_change_whose_answer_got_lost_is_known_again_and_another_s_is_not() -> None:
    world = DeliveryWorld(by_lane=False)
    world.add(2)
    seen = world.events.pending("acme", START)
    mine = [claim(event, "me", 9)[0] for event in seen]
    assert world.events.change(mine) == [None, None]
    # botocore sends it again.
    assert world.events.change(mine) == [None, None]
    theirs = world.events.change([claim(event, "other", 9)[0] for event in seen])
    assert [lost and lost.now and lost.now.lease_owner for lost in theirs] == ["me", "me"]


@pytest.mark.parametrize(
    "code",
    [
        "InternalServerError",
        "ProvisionedThroughputExceeded",
        "RequestLimitExceeded",
        "ThrottlingError",
        "TransactionConflict",
    ],
)
def test_what_may_pass_is_tried_again_for_those_it_hit(code: str) -> None:
    world = DeliveryWorld(by_lane=False)
    world.add(3)
    world.tables.passing = [code, code]
    assert claims(world) == [None] * 3
    assert world.tables.calls["batch_execute_statement"] == 2
    assert world.time() > START, "after a pause"
    assert {world.tables.plain(n)["version"] for n in (1, 2, 3)} == {2}


def test_what_does_not_pass_is_an_error() -> None:
    world = DeliveryWorld(by_lane=False)
    world.add(1)
    world.tables.passing = ["ThrottlingError"] * 99
    with pytest.raises(AwsUnavailableError):
        claims(world)
    world.tables.passing = ["AccessDenied"]
    with pytest.raises(AwsRefusedError, match="AccessDenied"):
        claims(world)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (table_error("ThrottlingException"), AwsUnavailableError),
        (table_error("InternalServerError", 500), AwsUnavailableError),
        (table_error("ResourceNotFoundException"), AwsRefusedError),
    ],
)
def test_a_call_that_fails_as_a_whole_is_reported_by_its_kind(error: Exception, kind: type[Exception]) -> None:
    world = DeliveryWorld(by_lane=False)
    world.add(1)
    world.tables.before = raising(error)
    with pytest.raises(kind):
        claims(world)
    with pytest.raises(kind):
        list(world.events.due(START))
    with pytest.raises(kind):
        world.events.pending("acme", START)


def test_an_owner_s_first_pending_events_come_in_their_order() -> None:
    world = DeliveryWorld(by_lane=False)
    world.add(PAGE * 2 + 3)
    world.add(5, "other", first=500)
    world.tables.change(2, status="delivered")
    found = world.events.pending("acme", START)
    assert [int(event.event_id[4:]) for event in found] == [1, *range(3, PAGE + 2)]


def test_events_are_not_looked_at_while_an_older_one_may_be_missing_in_the_index() -> None:
    world = DeliveryWorld(by_lane=False)
    world.tables.add(event_item(1, created=START), event_item(2, created=START + 0.5))
    assert world.events.pending("acme", START + SETTLE_SECONDS - 0.001) == []
    assert len(world.events.pending("acme", START + SETTLE_SECONDS + 0.001)) == 1


def test_failed_events_of_a_time_are_found() -> None:
    world = DeliveryWorld(by_lane=False)
    world.add(4)
    for number, at in ((1, START - 10), (2, START), (3, START + 10)):
        world.tables.change(number, status="failed", failed_at=timestamp(at), next_attempt_at=None)
    world.tables.page_size = 1
    assert [event.event_id[-1] for event in world.events.failed("acme", START)] == ["2", "3"]


def test_of_many_failed_events_the_newest_are_looked_at() -> None:
    world = DeliveryWorld(by_lane=False)
    world.add(20)
    for number in range(1, 21):
        world.tables.change(number, status="failed", failed_at=timestamp(START), next_attempt_at=None)
    world.tables.page_size = 2
    found = world.events.failed("acme", START)
    assert [int(event.event_id[4:]) for event in found] == list(range(21 - 2 * MAX_FAILED_PAGES, 21))
    assert world.tables.calls["query"] == MAX_FAILED_PAGES


def test_an_event_that_was_deleted_and_posted_anew_is_another_one() -> None:
    world = DeliveryWorld(by_lane=False)
    world.add(2)
    seen = world.events.pending("acme", START)
    mine = [claim(event, "me", 9)[0] for event in seen]
    assert world.events.change(mine[:1]) == [None]
    # Both have the id and the version of the one before; the first also the same lease.
    anew = event_item(1, created=START, version=2, lease_owner="me", lease_until=9), event_item(2, created=START)
    world.tables.add(*anew)
    for lost, item in zip(world.events.change(mine), anew, strict=True):
        assert lost == Conflict(Event.of(item))
    assert list(world.tables.events.values()) == list(anew), "untouched"
