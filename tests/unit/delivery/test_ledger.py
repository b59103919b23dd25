"""An owner's lane while its owner uses the API and workers die: what the API says of each event, and what arrived."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from include.clients.webhooks import WebhookResponse
from include.delivery.dispatcher import Dispatcher
from include.delivery.due import select_due
from include.delivery.ledger import GRACE_SECONDS, LEASE_SECONDS, LOST_SECONDS, MAX_ENTRIES, Entry, Lane
from include.delivery.models import SKEW_SECONDS, timestamp
from include.delivery.owner_queue import MAX_AT_ONCE
from lambdas.events_api.errors import NoSuchEventError
from lambdas.events_api.models import Status
from lambdas.events_api.store import INBOX, EventStore, Listing
from tests.worlds.dynamodb import EVENTS, event_item
from tests.worlds.events import (
    ACCEPTED,
    NEWEST_FIRST,
    START,
    Arrival,
    DeliveryWorld,
    KilledError,
    Life,
    new_event,
    refused,
    walk,
)

OWNER = "acme"
SETTLED = {Status.DELIVERED, Status.FAILED, Status.ACKNOWLEDGED}
MAX_ATTEMPTS = 3


def event_id(number: int) -> str:
    return f"evt_{number:012d}"


def run(world: DeliveryWorld) -> int:
    """What a run does: find whose events are due, and deliver them; how many posts it made."""
    due = select_due(world.events, world.subscriptions, now=world.time(), tasks=1)
    return sum(world.deliver(*share).attempts for share in due.shares)


def later_runs(world: DeliveryWorld) -> None:
    for _ in range(40):
        world.pass_time(LEASE_SECONDS + SKEW_SECONDS + 1)
        run(world)


@dataclass
class Owner:
    """Uses the API while events are delivered, and knows what must become of each.

    Args:
        refusals: how often its receiver refuses each event.
    """

    world: DeliveryWorld
    refusals: dict[int, int]
    ends: dict[str, Status] = field(default_factory=dict)
    arrivals_before: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    settled: dict[str, str] = field(default_factory=dict)
    stored_late: list[dict[str, Any]] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: itertools.count(100))

    def __post_init__(self) -> None:
        self.world.answer = self._answer
        self.world.tables.after = self._look

    def _look(self, operation: str) -> None:
        """No final state is left, but by what the owner does; and nothing is delivered that did not arrive."""
        for name, status in self.world.tables.found_statuses().items():
            if status == Status.DELIVERED:
                assert self._arrived(name) > self.arrivals_before.get(name, 0), "taken for delivered"
            if name not in self.touched:
                assert self.settled.setdefault(name, status) in (status, Status.PENDING), "settled twice"
                self.settled[name] = status

    def _answer(self, arrival: Arrival) -> WebhookResponse:
        number = int(arrival.event_id[4:])
        left = self.refusals.get(number, 0)
        self.refusals[number] = left - 1
        return refused() if left > 0 else ACCEPTED

    def act(self, what: str, number: int) -> None:
        """One call of the API."""
        api, now, name = self.world.tables.api, timestamp(self.world.time()), event_id(number)
        self.store_late()
        self.touched.add(name)
        try:
            if what == "acknowledge":
                api.acknowledge(OWNER, name, now)
                self.ends[name] = Status.ACKNOWLEDGED
            elif what == "replay":
                api.replay(OWNER, name, now)
                assert api.get(OWNER, name).status is Status.PENDING, "whatever the lane lists of it"
                self.ends.pop(name, None)
                self.arrivals_before[name] = self._arrived(name)
            elif what == "delete":
                api.delete(OWNER, name)
                self.gone.add(name)
            elif what == "post":
                created = next(self.numbers)
                text = f'{{"note":"{2000 * (created % 2) * "x"}"}}'
                api.put(new_event(OWNER, event_id=event_id(created), payload=text, created_at=now, next_attempt_at=now))
            elif what == "post slowly":
                # The API has made the lane due, and takes some time to store the event.
                self.world.tables.add_lane(OWNER, 1, created=self.world.time())
                again = number if name in self.gone else next(self.numbers)
                item = event_item(again, OWNER, created=self.world.time())
                del item["owner_status"], item["next_attempt_at"]
                self.stored_late.append(item)
            elif what == "post anew":
                if name not in self.gone:
                    api.delete(OWNER, name)
                    self.gone.add(name)
                api.put(new_event(OWNER, event_id=name, created_at=now, next_attempt_at=now))
                self._is_anew(name)
        except NoSuchEventError:
            assert name in self.gone or name not in self.world.tables.events

    def store_late(self) -> None:
        for item in self.stored_late:
            # Unless its id has been taken meanwhile.
            if (name := item["event_id"]["S"]) not in self.world.tables.events:
                self.world.tables.add(item)
                self._is_anew(name)
        self.stored_late.clear()

    def _is_anew(self, name: str) -> None:
        self.touched.add(name)
        self.gone.discard(name)
        self.ends.pop(name, None)
        self.arrivals_before[name] = self._arrived(name)

    def check(self) -> None:
        """What must hold when all is over."""
        world, api = self.world, self.world.tables.api
        statuses = {name: api.get(OWNER, name).status for name in world.tables.events}
        assert set(statuses.values()) <= SETTLED, "every event ends"
        assert not self.gone & set(statuses)
        for name, end in self.ends.items():
            if name not in self.gone:
                assert statuses[name] == end, "what its owner did holds"
        for name, status in statuses.items():
            if status in (Status.DELIVERED, Status.FAILED):
                assert self._arrived(name) > self.arrivals_before.get(name, 0), "posted, and after a replay once more"
        listed = [event.event_id for event in walk(api, OWNER, NEWEST_FIRST, 7)]
        assert sorted(listed) == sorted(statuses)
        for status in Status:
            found = {event.event_id for event in walk(api, OWNER, Listing(status, newest_first=True), 3)}
            assert found == {name for name, each in statuses.items() if each is status}, status
        firsts = [number for number in dict.fromkeys(world.arrived()) if event_id(number) not in self.touched]
        assert firsts == sorted(firsts), "out of order"
        assert "next_attempt_at" not in world.tables.lane(), "nothing is left to do"

    def _arrived(self, name: str) -> int:
        return sum(arrival.event_id == name for arrival in self.world.arrivals)


def elsewhere(world: DeliveryWorld, dispatcher: Dispatcher) -> None:
    """Deliver in another event loop, from within a step of a worker."""
    with ThreadPoolExecutor(1) as thread:
        (end,) = thread.submit(world.deliver_at_once, dispatcher).result()
    assert not isinstance(end, BaseException) or isinstance(end, KilledError), end


LIVES = st.lists(
    st.tuples(st.none() | st.integers(1, 40), st.booleans(), st.floats(-2, 2), st.none() | st.integers(1, 40)),
    min_size=1,
    max_size=3,
)
ACTS = st.lists(
    st.tuples(
        st.integers(1, 60),
        st.sampled_from(["acknowledge", "replay", "delete", "post", "post slowly", "post anew"]),
        st.integers(1, 8),
    ),
    max_size=8,
)


@settings(max_examples=100)
@given(
    count=st.integers(1, 8),
    own=st.integers(0, 3),
    refusals=st.dictionaries(st.integers(1, 12), st.integers(1, 4), max_size=4),
    lives=LIVES,
    acts=ACTS,
    latency=st.sampled_from([0.0, 0.05, 3.0]),
    late_from=st.none() | st.integers(1, 20),
    age=st.sampled_from([0.0, 3600.0]),
    relieved_for=st.none() | st.integers(1, 30),
)
def test_whatever_an_owner_does_while_workers_die_every_event_ends_as_it_must(
    count: int,
    own: int,
    refusals: dict[int, int],
    lives: Any,
    acts: Any,
    latency: float,
    late_from: int | None,
    age: float,
    relieved_for: int | None,
) -> None:
    world = DeliveryWorld(max_attempts=MAX_ATTEMPTS, concurrency=3, latency=lambda arrival: latency)
    # Some were stored before there were lanes.
    world.by_lane = False
    world.add(own, OWNER)
    world.by_lane = True
    world.add(count, OWNER, first=own + 1)
    world.pass_time(age)
    owner = Owner(world, dict(refusals))
    all_steps = itertools.count(1)
    left = sorted(acts)
    is_late = False

    def dispatcher_of(steps: int | None, in_effect: bool, ahead: float, held_up_at: int | None) -> Any:
        def on_step(number: int) -> None:
            nonlocal is_late
            step = next(all_steps)
            while left and left[0][0] <= step:
                owner.act(*left.pop(0)[1:])
                if is_late:
                    world.tables.be_late()
            if step == late_from:
                is_late = True
                world.tables.be_late()
            if number == held_up_at:
                world.pass_time(LEASE_SECONDS + 2 * SKEW_SECONDS)
                # Meanwhile another worker does some of its work, or all of it.
                elsewhere(world, world.dispatcher(Life(relieved_for)))

        return world.dispatcher(Life(steps, in_effect, on_step), clock_ahead=ahead)

    ends = world.deliver_at_once(*(dispatcher_of(*life) for life in lives))
    assert all(isinstance(end, KilledError) for end in ends if isinstance(end, BaseException)), ends
    owner.store_late()
    world.tables.be_late(False)
    later_runs(world)
    owner.check()


@pytest.mark.parametrize("by_lane", [True, False])
def test_a_killed_worker_repeats_no_more_than_it_had_not_written(by_lane: bool) -> None:
    most = 0
    for step in range(1, 400):
        world = DeliveryWorld(latency=lambda arrival: 0.001, by_lane=by_lane)
        world.add(100)
        life = Life(step)
        world.deliver_at_once(world.dispatcher(life))
        later_runs(world)
        arrived = world.arrived()
        assert list(dict.fromkeys(arrived)) == list(range(1, 101))
        most = max(most, len(arrived) - 100)
        if life.taken < step:
            break
    assert 1 < most <= MAX_AT_ONCE
    assert step > 110


def test_few_writes_are_made_for_many_events() -> None:
    # Time passes for one owner after the other here: a tenth of a second between two posts of each.
    world = DeliveryWorld(concurrency=64, latency=lambda arrival: 0.1 / 20)
    owners = [f"owner-{number}" for number in range(20)]
    for index, owner in enumerate(owners):
        world.add(50, owner, first=100 * index + 1)
    assert world.deliver(*owners).delivered == 1000
    assert world.tables.calls["batch_execute_statement"] == 0
    writes = world.tables.calls["update_item"] + world.tables.calls["put_item"]
    assert writes <= 1000 / 10, "lanes taken, written every three seconds and given back, and batches"
    assert world.tables.calls["query"] == 2 * len(owners)
    assert {len(item) for key, item in world.tables.items.items() if key.startswith("evt_")} == {9, 10}, (
        "left as they were"
    )


def test_few_calls_tell_what_became_of_an_event() -> None:
    world = DeliveryWorld()
    world.add(90)
    world.deliver()
    # Every third one's payload is in an item of its own, and the lane has the last outcomes.
    for number, calls in ((89, 1), (90, 2), (1, 2), (3, 3)):
        world.tables.table.calls.clear()
        assert world.tables.api.get(OWNER, event_id(number)).status is Status.DELIVERED
        assert world.tables.table.calls.total() == calls, number


def test_a_worker_that_was_held_up_changes_nothing() -> None:
    world = DeliveryWorld(latency=lambda arrival: 0.001)
    world.add(40)
    other: list[str] = []

    def on_step(number: int) -> None:
        if number == 20:
            world.pass_time(LEASE_SECONDS + 2 * SKEW_SECONDS)
            # Meanwhile another worker delivers the rest, and the owner has one delivered again.
            lane = Lane.of(world.tables.items[f"lane#{OWNER}"])
            assert lane.lease_owner is not None
            world.tables.items[f"lane#{OWNER}"] |= {
                "lease_owner": {"S": "other"},
                "version": {"N": str(lane.version + 1)},
                "lease_until": {"N": str(int(world.time()) + 60)},
            }
            other.append(str(world.tables.items[f"lane#{OWNER}"]))

    (counts,) = world.deliver_at_once(world.dispatcher(Life(on_step=on_step)))
    assert str(world.tables.items[f"lane#{OWNER}"]) == other[0], "as the other worker has it"
    assert not isinstance(counts, BaseException)
    assert counts.lost > 0


def test_a_worker_that_was_held_up_before_a_refusal_does_not_undo_a_delivery() -> None:
    world = DeliveryWorld()
    world.add(2)

    def answer(arrival: Arrival) -> WebhookResponse:
        if len(world.arrivals) > 1:
            return ACCEPTED
        world.pass_time(LEASE_SECONDS + 2 * SKEW_SECONDS)
        elsewhere(world, world.dispatcher())
        return refused()

    world.answer = answer
    world.deliver_at_once(world.dispatcher())
    assert world.arrived() == [1, 1, 2]
    assert world.tables.statuses() == ["delivered"] * 2


@pytest.mark.parametrize("count", [1, MAX_ENTRIES, MAX_ENTRIES + 1, 3 * MAX_ENTRIES])
@pytest.mark.parametrize("age", [0.0, 2 * GRACE_SECONDS])
def test_the_api_tells_how_each_event_was_delivered(count: int, age: float) -> None:
    world = DeliveryWorld(latency=lambda arrival: 0.25)
    world.add(count)
    world.pass_time(age)
    for _ in range(20):
        world.deliver()
    for event in walk(world.tables.api, OWNER, NEWEST_FIRST, 10):
        assert event == world.tables.api.get(OWNER, event.event_id)
        assert (event.status, event.delivery_attempts, event.last_status) == (Status.DELIVERED, 1, 200)
        (arrival,) = (each for each in world.arrivals if each.event_id == event.event_id)
        assert event.delivered_at == timestamp(arrival.at + 0.25)
        assert event.attempts is not None
        assert f'"time":"{timestamp(arrival.at)}","status":200,"milliseconds":250,"cause":null' in event.attempts
        assert event.next_attempt_at is None
    assert list(walk(world.tables.api, OWNER, INBOX, 10)) == []


def test_what_a_delivered_event_was_stays_known_when_its_owner_changes_it() -> None:
    world = DeliveryWorld()
    world.add(2)
    world.deliver()
    api = world.tables.api
    delivered = [api.get(OWNER, event_id(number)) for number in (1, 2)]
    api.acknowledge(OWNER, event_id(1), timestamp(START))
    assert api.get(OWNER, event_id(1)) == replace(
        delivered[0], status=Status.ACKNOWLEDGED, acknowledged_at=timestamp(START), version=2
    )
    replayed = api.replay(OWNER, event_id(2), timestamp(START))
    assert (replayed.status, replayed.delivery_attempts, replayed.delivered_at) == (Status.PENDING, 0, None)
    assert replayed.attempts == delivered[1].attempts
    assert api.get(OWNER, event_id(2)) == replayed


@pytest.mark.parametrize("late", [False, True])
def test_an_event_under_the_id_of_a_delivered_one_that_is_gone_is_another_event(late: bool) -> None:
    world = DeliveryWorld()
    world.add(3)
    run(world)
    api, name = world.tables.api, event_id(2)
    api.delete(OWNER, name)
    world.pass_time(10)
    now = timestamp(world.time())
    api.put(new_event(OWNER, event_id=name, created_at=now, next_attempt_at=now))
    assert api.get(OWNER, name).status is Status.PENDING
    if late:
        # Others that were posted after it are delivered before the index shows it.
        world.tables.hidden = {name}
        world.pass_time(10)
        later = timestamp(world.time())
        api.put(new_event(OWNER, event_id=event_id(9), created_at=later, next_attempt_at=later))
        world.pass_time(10)
        run(world)
        world.tables.hidden = set()
    world.pass_time(2 * GRACE_SECONDS)
    run(world)
    assert world.arrived() == [1, 2, 3, *([9] if late else []), 2]
    assert api.get(OWNER, name).status is Status.DELIVERED


def test_an_event_under_the_id_of_a_refused_one_that_is_gone_is_posted_at_once_and_before_those_that_follow() -> None:
    world = DeliveryWorld(answer=lambda arrival: refused(retry_after=3600))
    world.add(1)
    run(world)
    world.answer = lambda arrival: ACCEPTED
    api = world.tables.api
    api.delete(OWNER, event_id(1))
    for number in (1, 2):
        world.pass_time(1)
        now = timestamp(world.time())
        api.put(new_event(OWNER, event_id=event_id(number), created_at=now, next_attempt_at=now))
    world.pass_time(2)
    run(world)
    assert world.arrived() == [1, 1, 2]


def test_an_event_that_is_posted_while_a_slow_receiver_gets_others_is_not_taken_for_a_late_one() -> None:
    world = DeliveryWorld(latency=lambda arrival: 2.5)
    world.add(3)

    def answer(arrival: Arrival) -> WebhookResponse:
        if arrival.event_id == event_id(1):
            now = timestamp(world.time())
            world.tables.api.put(new_event(OWNER, event_id=event_id(4), created_at=now, next_attempt_at=now))
        return ACCEPTED

    world.answer = answer
    run(world)
    assert world.arrived() == [1, 2, 3, 4]


def test_an_event_that_appears_late_is_delivered_too() -> None:
    world = DeliveryWorld()
    world.add(3)
    late = world.tables.items.pop(event_id(2))
    run(world)
    assert world.arrived() == [1, 3]
    world.tables.add(late)
    assert world.tables.api.get(OWNER, event_id(2)).status is Status.PENDING
    world.pass_time(70)
    run(world)
    assert world.arrived() == [1, 3, 2]
    assert world.tables.api.get(OWNER, event_id(2)).status is Status.DELIVERED


# The last one by a function whose clock is late, when the marker is further on.
@example(posts=[*3 * [(300.0, 0.0, 0.0, 0)], (0.0, 0.0, -600.0, 0)], repeated=False)
@settings(max_examples=60)
@given(
    posts=st.lists(
        st.tuples(
            st.floats(0, 300),  # seconds since the post before
            st.sampled_from([0.0, 200.0, 800.0, 2 * LOST_SECONDS]),  # index is late by
            st.sampled_from([0.0, -1.5, -200.0, -600.0, 200.0]),  # function's clock is ahead by
            st.just(0) | st.integers(0, 5),  # minutes that the function is held up before it stores the event
        ),
        min_size=1,
        max_size=6,
    ),
    repeated=st.booleans(),
)
def test_an_event_is_not_taken_for_delivered_however_late_or_displaced_it_appears(posts: Any, repeated: bool) -> None:
    world = DeliveryWorld()
    world.add(1)
    shown_at: dict[str, float] = {}

    def pass_minutes(minutes: int) -> None:
        world.pass_time(60 * minutes)
        world.tables.hidden = {name for name, at in shown_at.items() if at > world.time()}
        run(world)
        for name in world.tables.events:
            if world.tables.api.get(OWNER, name).status is not Status.PENDING:
                assert any(arrival.event_id == name for arrival in world.arrivals), "taken for delivered"

    for number, (pause, late, ahead, held_up) in enumerate(posts, start=100):
        world.pass_time(pause)
        now, name = timestamp(world.time() + ahead), event_id(number)

        def hold_up(minutes: int = held_up) -> None:
            del world.tables.table.before["put_item"]
            for _ in range(minutes):
                pass_minutes(1)

        world.tables.table.before["put_item"] = hold_up
        for _ in range(1 + repeated):
            world.tables.api.put(new_event(OWNER, event_id=name, created_at=now, next_attempt_at=now))
        shown_at[name] = world.time() + late
        pass_minutes(1)
    for _ in range(20):
        pass_minutes(5)
    found = {event_id(number) for number, (_, late, _, _) in enumerate(posts, start=100) if late < LOST_SECONDS}
    assert found <= {arrival.event_id for arrival in world.arrivals}
    assert len(world.arrived()) == len(set(world.arrived()))
    assert "next_attempt_at" not in world.tables.lane(), "nothing is left to do"


def test_an_event_that_is_counted_while_a_worker_has_the_lane_is_not_passed_by_the_marker() -> None:
    world = DeliveryWorld()
    world.add(1)
    world.add(1, first=3)
    world.pass_time(2 * GRACE_SECONDS)

    def answer(arrival: Arrival) -> WebhookResponse:
        if arrival.event_id == event_id(3):
            # By a function whose clock is minutes late.
            at = timestamp(START - 60 + 0.002)
            world.tables.api.put(new_event(OWNER, event_id=event_id(2), created_at=at, next_attempt_at=at))
        return ACCEPTED

    world.answer = answer
    run(world)
    world.pass_time(2 * GRACE_SECONDS)
    run(world)
    assert world.arrived() == [1, 3, 2]


def test_an_event_that_appears_late_is_not_passed_over_by_those_that_follow() -> None:
    world = DeliveryWorld()
    world.add(3)
    late = world.tables.items.pop(event_id(2))
    run(world)
    world.tables.add(late)
    world.pass_time(2 * GRACE_SECONDS)
    world.by_lane = True
    for number in range(100, 180):
        at = timestamp(world.time() - 130 + number / 1000)
        world.tables.api.put(new_event(OWNER, event_id=event_id(number), created_at=at, next_attempt_at=at))
    for _ in range(2):
        run(world)
    assert sorted(world.arrived()) == [1, 2, 3, *range(100, 180)]
    assert set(world.tables.statuses()) == {"delivered"}


def test_an_old_backlog_is_looked_through_once_more_if_the_count_does_not_fit() -> None:
    world = DeliveryWorld()
    world.add(400)
    world.pass_time(2 * LOST_SECONDS)
    world.tables.api.delete(OWNER, event_id(7))
    run(world)
    assert len(world.arrived()) == 399
    # Each page once by each index, what is due, and a look behind the top.
    assert world.tables.calls["query"] <= 2 * 9 + 2 + 9
    assert "next_attempt_at" not in world.tables.lane()


def test_what_has_just_been_delivered_is_known_though_the_index_does_not_show_it_yet() -> None:
    world = DeliveryWorld()
    world.add(200)
    world.tables.be_late()
    world.deliver()
    api = EventStore(world.tables, EVENTS)
    assert {api.get(OWNER, name).status for name in world.tables.events} == {Status.DELIVERED}


def test_the_age_of_what_waits_is_not_that_of_what_an_owner_who_posts_on_and_on_posted_first() -> None:
    world = DeliveryWorld(seconds=100.0, latency=lambda arrival: 1.0)
    world.add(1)
    numbers = itertools.count(100)

    def answer(arrival: Arrival) -> WebhookResponse:
        now = timestamp(world.time())
        world.tables.api.put(new_event(OWNER, event_id=event_id(next(numbers)), created_at=now, next_attempt_at=now))
        return ACCEPTED

    world.answer = answer
    assert run(world) > 20
    due = select_due(world.events, world.subscriptions, now=world.time(), tasks=1)
    assert due.events == 1
    assert due.oldest_seconds < 10


def test_a_lane_whose_events_are_all_noted_is_not_looked_at_again() -> None:
    world = DeliveryWorld()
    world.add(3)
    assert run(world) == 3
    assert "next_attempt_at" not in world.tables.lane()
    queries = world.tables.calls["query"]
    assert run(world) == 0
    assert world.tables.calls["query"] == queries + 2, "what is due, in both forms"


def test_entries_are_short_and_read_as_they_were_written() -> None:
    for entry in (
        Entry("2026-03-02T09:30:00.123Z#evt_0123456789ab", (1_772_443_801_456, 204, 50)),
        Entry("2026-03-02T09:30:00.123Z#evt_0123456789ab"),
    ):
        assert Entry.of(entry.text) == entry
        assert len(entry.text) <= 40
