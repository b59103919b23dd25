"""One owner's queue: order, refusals, leases, and what others do to events meanwhile."""

from typing import Any

import pytest

from include.clients.webhooks import POST_SECONDS, WebhookResponse
from include.delivery.event_table import PAGE
from include.delivery.ledger import LEASE_SECONDS
from include.delivery.models import SKEW_SECONDS, timestamp
from include.delivery.owner_queue import PAGE_SECONDS, SLOW_SECONDS
from tests.worlds.events import ACCEPTED, START, Arrival, DeliveryWorld, refused


def refusing(*numbers: int, reply: WebhookResponse | None = None) -> Any:
    ids = {f"evt_{number:012d}" for number in numbers}
    return lambda arrival: (reply or refused()) if arrival.event_id in ids else ACCEPTED


def test_events_arrive_once_each_in_the_order_of_their_creation() -> None:
    world = DeliveryWorld()
    world.add(PAGE + 60)
    # One that has a status of its own is in another index, where it is on the first page.
    world.tables.change(PAGE + 50, next_attempt_at=timestamp(START - 1))
    counts = world.deliver()
    assert world.arrived() == list(range(1, PAGE + 61))
    assert set(world.tables.statuses()) == {"delivered"}
    assert (counts.attempts, counts.delivered, counts.lost) == (PAGE + 60, PAGE + 60, 0)
    assert world.tables.plain(1)["delivery_attempts"] == 1
    assert "next_attempt_at" not in world.tables.plain(1)


def test_few_calls_are_made_for_events_that_have_a_status_of_their_own() -> None:
    world = DeliveryWorld(concurrency=64, by_lane=False)
    owners = [f"owner-{number}" for number in range(40)]
    for index, owner in enumerate(owners):
        world.add(25, owner, first=100 * index + 1)
    assert world.deliver(*owners).delivered == 1000
    assert world.tables.calls["query"] == 2 * len(owners)
    assert world.tables.calls["batch_execute_statement"] <= 2000 / 12, "claims and outcomes in groups of up to 25"


def test_events_are_posted_however_long_it_takes_to_read_them() -> None:
    world = DeliveryWorld()
    world.add(3)
    world.tables.after = lambda operation: world.pass_time(PAGE_SECONDS + 1) if operation == "query" else None
    world.deliver()
    assert world.arrived() == [1, 2, 3]


@pytest.mark.parametrize("by_lane", [True, False])
def test_a_refused_event_holds_up_all_behind_it_and_is_posted_again_when_it_is_due(by_lane: bool) -> None:
    world = DeliveryWorld(max_attempts=99, by_lane=by_lane)
    world.add(9)
    # Of those that are claimed, the fourth to the seventh are claimed together.
    world.answer = refusing(5)
    counts = world.deliver()
    assert world.arrived()[:4] == [1, 2, 3, 4]
    assert set(world.arrived()[4:]) == {5}, "nothing overtakes it"
    fifth = world.tables.plain(5)
    assert (fifth["status"], fifth["delivery_attempts"], fifth["last_status"]) == ("pending", counts.postponed, 503)
    assert fifth["next_attempt_at"] > timestamp(world.time())
    assert [world.tables.plain(number)["status"] for number in (6, 7)] == ["pending"] * 2
    assert "lease_owner" not in world.tables.plain(6), "nobody need wait for what was claimed and not posted"
    world.pass_time(3600)
    world.answer = lambda arrival: ACCEPTED
    world.deliver()
    assert world.arrived()[-5:] == [5, 6, 7, 8, 9]
    assert "last_error" not in world.tables.plain(5)


def test_of_those_that_are_claimed_none_is_posted_before_it_is_due_or_without_its_payload() -> None:
    world = DeliveryWorld()
    world.add(18)
    # Every third one's payload is an item of its own.
    for number in range(1, 19):
        world.tables.change(number, next_attempt_at=timestamp(START + (60 if number == 17 else -1)))
    counts = world.deliver()
    assert world.arrived() == list(range(1, 17))
    assert counts.attempts == 16, "a receiver takes no post without a payload"


def test_a_pause_between_attempts_is_waited_for_only_if_it_is_short() -> None:
    world = DeliveryWorld()
    world.add(1)
    world.answer = refusing(1, reply=refused(429, retry_after=120))
    assert world.deliver().attempts == 1
    assert world.time() < START + 5
    assert world.tables.plain(1)["next_attempt_at"] >= timestamp(START + 120)
    world.pass_time(60)
    assert world.deliver().attempts == 0, "it is not due yet"


def test_after_the_last_attempt_an_event_has_failed_and_the_next_one_goes_on() -> None:
    world = DeliveryWorld(max_attempts=3)
    world.add(3)
    world.answer = refusing(2, reply=refused(500))
    counts = world.deliver()
    assert world.arrived() == [1, 2, 2, 2, 3]
    assert world.tables.statuses() == ["delivered", "failed", "delivered"]
    assert (counts.delivered, counts.failed, counts.postponed) == (2, 1, 2)
    failed = world.tables.plain(2)
    assert (failed["delivery_attempts"], failed["last_status"], failed["last_error"]) == (3, 500, "500 refused")
    assert world.dead() == [
        {
            "event_id": "evt_000000000002",
            "owner": "acme",
            "attempts": 3,
            "last_status": 500,
            "error": "500 refused",
            "first_failed_at": failed["first_failed_at"],
        }
    ]
    assert world.deliver().attempts == 0, "nobody posts it after that"


def test_what_follows_an_event_that_failed_is_not_passed_over() -> None:
    world = DeliveryWorld(max_attempts=1)
    world.add(30)
    world.answer = refusing(5, 6, 11, 29, reply=refused(500))
    counts = world.deliver()
    assert world.arrived() == list(range(1, 31))
    assert (counts.delivered, counts.failed) == (26, 4)
    assert "pending" not in world.tables.statuses()


def test_a_receiver_that_is_gone_gets_no_more_and_its_events_stay_in_the_inbox() -> None:
    world = DeliveryWorld()
    world.add(4)
    world.answer = refusing(2, reply=refused(410))
    world.deliver()
    assert world.arrived() == [1, 2]
    assert world.tables.statuses() == ["delivered", "pending", "pending", "pending"]
    subscription = world.tables.subscriptions["acme"]
    assert subscription["active"] == {"BOOL": False}
    assert "410" in subscription["deactivated_reason"]["S"]
    assert not any("lease_owner" in item for item in world.tables.events.values())


def test_a_secret_that_cannot_be_used_is_a_refusal() -> None:
    world = DeliveryWorld(max_attempts=2)
    world.add(1)
    world.tables.subscriptions["acme"]["secret"] = {"S": "whsec_pl4ntedé"}
    world.deliver()
    assert world.arrivals == []
    assert world.tables.plain(1)["status"] == "failed"
    assert "pl4nted" not in str(world.tables.events)


@pytest.mark.parametrize("held", ["event", "lane"])
def test_what_another_worker_holds_is_not_posted_until_its_lease_is_over_by_both_clocks(held: str) -> None:
    world = DeliveryWorld()
    world.add(2)
    if held == "lane":
        lease = {"lease_owner": {"S": "other"}, "lease_until": {"N": str(int(START) + 60)}}
        world.tables.items["lane#acme"] |= lease
    else:
        world.tables.change(1, lease_owner="other", lease_until=int(START) + 60)
    assert world.deliver().attempts == 0
    assert world.time() < START + 1, "nobody waits for so long"
    world.time.now = START + 60 + SKEW_SECONDS - 0.5
    world.seconds = 0.1
    assert world.deliver().attempts == 0
    world.time.now = START + 60 + SKEW_SECONDS + 0.5
    world.seconds = 300
    world.deliver()
    assert world.arrived() == [1, 2]


@pytest.mark.parametrize("status", ["delivered", "acknowledged", "failed"])
def test_what_is_settled_already_is_passed_over_though_the_index_shows_it_still(status: str) -> None:
    world = DeliveryWorld(by_lane=False)
    world.add(3)
    world.tables.be_late()
    world.tables.change(2, status=status, next_attempt_at=None)
    del world.tables.items["evt_000000000001"]
    world.deliver()
    assert world.arrived() == [3]


@pytest.mark.parametrize("by_lane", [True, False])
def test_nothing_overtakes_what_another_worker_has_postponed_though_the_index_does_not_show_it_yet(
    by_lane: bool,
) -> None:
    world = DeliveryWorld(seconds=30, by_lane=by_lane)
    world.add(3)
    world.tables.be_late()
    world.answer = refusing(1, reply=refused(retry_after=20))
    world.deliver()
    world.answer = lambda arrival: ACCEPTED
    assert world.deliver().attempts == 0
    assert world.arrived() == [1]
    world.tables.be_late(False)
    world.pass_time(30)
    world.deliver()
    assert world.arrived() == [1, 1, 2, 3]


def test_what_waits_for_a_refused_event_goes_on_once_that_is_settled_though_the_index_shows_it_still() -> None:
    world = DeliveryWorld()
    world.add(3)
    world.answer = refusing(1, reply=refused(retry_after=600))
    world.deliver()
    world.tables.be_late()
    world.tables.api.acknowledge("acme", "evt_000000000001", timestamp(world.time()))
    world.answer = lambda arrival: ACCEPTED
    world.deliver()
    assert world.arrived() == [1, 2, 3]


@pytest.mark.parametrize("by_lane", [True, False])
def test_what_follows_an_event_that_its_owner_settled_while_it_was_refused_goes_on_at_once(by_lane: bool) -> None:
    world = DeliveryWorld(by_lane=by_lane)
    world.add(2)

    def answer(arrival: Arrival) -> WebhookResponse:
        if arrival.event_id.endswith("2"):
            return ACCEPTED
        world.tables.api.acknowledge("acme", arrival.event_id, timestamp(world.time()))
        return refused(retry_after=3600)

    world.answer = answer
    world.deliver()
    assert world.arrived() == [1, 2]


@pytest.mark.parametrize("by_lane", [True, False])
@pytest.mark.parametrize("status", ["acknowledged", None])
def test_an_outcome_does_not_undo_what_an_owner_did_meanwhile(status: str | None, by_lane: bool) -> None:
    world = DeliveryWorld(by_lane=by_lane)
    world.add(3)

    def answer(arrival: Arrival) -> WebhookResponse:
        if arrival.event_id.endswith("2"):
            if status is None:
                world.tables.api.delete("acme", arrival.event_id)
            else:
                world.tables.api.acknowledge("acme", arrival.event_id, timestamp(world.time()))
        return ACCEPTED

    world.answer = answer
    counts = world.deliver()
    assert world.arrived() == [1, 2, 3]
    # A lane takes note of what was accepted; what the owner did is written in the event.
    assert (counts.delivered, counts.lost) == ((3, 0) if by_lane else (2, 1))
    assert world.tables.statuses() == (["delivered"] * 2 if status is None else ["delivered", status, "delivered"])


def test_an_event_that_is_withdrawn_while_others_are_posted_slowly_is_not_posted() -> None:
    world = DeliveryWorld()
    world.add(10)

    def answer(arrival: Arrival) -> WebhookResponse:
        if arrival.event_id.endswith("1"):
            world.tables.api.acknowledge("acme", "evt_000000000010", timestamp(world.time()))
        return ACCEPTED

    world.answer = answer
    world.latency = lambda arrival: PAGE_SECONDS / 8
    world.deliver()
    assert world.arrived() == list(range(1, 10))


def test_an_event_whose_payload_was_deleted_with_it_meanwhile_is_not_posted() -> None:
    world = DeliveryWorld()
    world.add(4)
    # Every third one's payload is an item of its own; the index shows the event still.
    world.tables.be_late()
    world.tables.api.delete("acme", "evt_000000000003")
    world.deliver()
    assert world.arrived() == [1, 2, 4]


@pytest.mark.parametrize("by_lane", [True, False])
def test_an_event_that_was_replayed_while_it_was_posted_is_posted_again(by_lane: bool) -> None:
    world = DeliveryWorld(by_lane=by_lane)
    world.add(2)
    replayed = False

    def answer(arrival: Arrival) -> WebhookResponse:
        nonlocal replayed
        if arrival.event_id.endswith("1") and not replayed:
            replayed = True
            world.tables.api.replay("acme", arrival.event_id, timestamp(world.time()))
        return ACCEPTED

    world.answer = answer
    # The replay wakes the delivery.
    for _ in range(2):
        world.deliver()
    assert sorted(world.arrived()) == [1, 1, 2]
    assert world.tables.statuses() == ["delivered"] * 2


def test_a_slow_receiver_s_events_are_not_posted_beyond_their_lease_and_keep_their_order() -> None:
    world = DeliveryWorld()
    world.add(40)
    arrivals = 0

    def latency(arrival: Arrival) -> float:
        nonlocal arrivals
        arrivals += 1
        # Quick enough to be trusted with many at once, and then not.
        return 0.01 if arrivals <= 20 else 9.0

    world.latency = latency
    runs = [world.deliver() for _ in range(10)]
    assert world.arrived() == list(range(1, 41))
    assert sum(counts.lost for counts in runs) == 0
    assert world.time() - START > 2 * LEASE_SECONDS


def test_no_post_begins_that_could_outlast_the_lease() -> None:
    world = DeliveryWorld(by_lane=False)
    world.add(80)
    left = []

    def latency(arrival: Arrival) -> float:
        leases = [int(item["lease_until"]["N"]) for item in world.tables.events.values() if "lease_until" in item]
        left.append(max(leases) - arrival.at)
        # Quick until many are claimed at once, and then nearly slow.
        return 0.01 if len(left) <= 31 else 0.9 * SLOW_SECONDS

    world.latency = latency
    for _ in range(3):
        world.deliver()
        world.pass_time(LEASE_SECONDS)
    assert world.arrived() == list(range(1, 81))
    assert POST_SECONDS + SKEW_SECONDS <= min(left) < LEASE_SECONDS / 2


def test_the_first_event_of_a_claim_is_settled_last_so_that_nobody_else_begins_on_the_lane() -> None:
    world = DeliveryWorld(by_lane=False)
    world.add(40)
    open_under_a_lease = 0

    def look(operation: str) -> None:
        nonlocal open_under_a_lease
        posted_and_open = {
            arrival.event_id
            for arrival in world.arrivals
            if world.tables.events[arrival.event_id]["status"]["S"] == "pending"
        }
        leased = any("lease_owner" in item for item in world.tables.events.values())
        assert leased or not posted_and_open
        open_under_a_lease += leased and len(posted_and_open) > 1

    world.tables.after = look
    world.deliver()
    assert open_under_a_lease > 0


def test_two_workers_never_deliver_one_owner_s_events_out_of_order() -> None:
    world = DeliveryWorld()
    world.add(50)
    world.latency = lambda arrival: 0.05
    parts = world.deliver_at_once(*(world.dispatcher(clock_ahead=ahead) for ahead in (0.0, 2.0, -2.0)))
    assert world.arrived() == list(range(1, 51))
    assert sum(counts.delivered for counts in parts if not isinstance(counts, BaseException)) == 50
