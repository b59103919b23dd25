"""Workers that are killed at any step, held up for longer than their lease, or shown an old index: nothing is lost,
nothing is stuck, nothing is out of order.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.clients.webhooks import WebhookResponse
from include.delivery.ledger import LEASE_SECONDS, Lane
from include.delivery.models import SKEW_SECONDS
from tests.worlds.events import ACCEPTED, Arrival, DeliveryWorld, KilledError, Life, refused

SETTLED = ("delivered", "failed")
MAX_ATTEMPTS = 3


@dataclass
class Watch:
    """A world whose every step is looked at.

    Args:
        refusals: how often the receiver refuses each event.
        held_up: a worker is held up, so that a post of its may arrive when another has its lane.
    """

    world: DeliveryWorld
    refusals: dict[int, int]
    held_up: bool = False
    settled: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    leases: dict[str, Lane] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world.answer = self._answer
        self.world.tables.after = self._look

    def _answer(self, arrival: Arrival) -> WebhookResponse:
        # Kept for later: what is raised here is the receiver's.
        event_id, statuses = arrival.event_id, self.world.tables.found_statuses()
        waiting = {each for each, url in self.refused.items() if url == arrival.url and statuses[each] == "pending"}
        if not self.held_up and (statuses[event_id] == "failed" or min(waiting, default=event_id) < event_id):
            self.wrong.append(event_id)
        left = self.refusals.get(int(event_id[4:]), 0)
        self.refusals[int(event_id[4:])] = left - 1
        self.refused.pop(event_id, None)
        if left <= 0:
            return ACCEPTED
        self.refused[event_id] = arrival.url
        # Too long for this run.
        return refused(retry_after=20.0 * (left == 4))

    def _look(self, operation: str) -> None:
        if operation in ("query", "get_item", "batch_get_item"):
            return  # nothing is written by these, and there are many
        for event_id, status in self.world.tables.found_statuses().items():
            assert self.settled.get(event_id, status) == status, "settled twice"
            if status in SETTLED:
                self.settled[event_id] = status
        for lane in [Lane.of(item) for key, item in self.world.tables.items.items() if key.startswith("lane#")]:
            before = self.leases.get(lane.owner, lane)
            if before.lease_owner and lane.lease_owner not in (None, before.lease_owner):
                assert self.world.time() > before.lease_until, "begun on a lane that another worker has"
            self.leases[lane.owner] = lane

    def finish(self, owners: list[str]) -> None:
        """Let healthy workers do the rest, as a run at once and later ones would."""
        self.world.deliver(*owners)
        self.world.tables.be_late(False)
        for _ in range(40):
            self.world.pass_time(LEASE_SECONDS + SKEW_SECONDS + 1)
            self.world.deliver(*owners)
            if set(self.world.tables.statuses()) <= set(SETTLED):
                return
        pytest.fail(f"stuck: {self.world.tables.statuses()}")

    def check(self, owners: list[str]) -> None:
        """What must hold in the end."""
        assert self.wrong == [], "posted though it has failed, or though one before it waits for its next attempt"
        for owner in owners:
            arrived = self.world.arrived(owner)
            firsts = list(dict.fromkeys(arrived))
            assert firsts == sorted(firsts), "out of order"
        arrived_ids = {arrival.event_id for arrival in self.world.arrivals}
        assert arrived_ids == set(self.world.tables.events), "each arrived, under its own id"
        dead = {letter["event_id"] for letter in self.world.dead()}
        assert {event_id for event_id, status in self.settled.items() if status == "failed"} <= dead
        assert not any("lease_owner" in item or "next_attempt_at" in item for item in self.world.tables.events.values())


def watched(
    counts: dict[str, int], refusals: dict[int, int], latency: float = 0.01, max_attempts: int = MAX_ATTEMPTS
) -> Watch:
    world = DeliveryWorld(max_attempts=max_attempts, concurrency=3, latency=lambda arrival: latency)
    first = 1
    for owner, count in counts.items():
        world.add(count, owner, first=first)
        first += count
    return Watch(world, dict(refusals))


def steps_of_a_life(counts: dict[str, int], refusals: dict[int, int]) -> int:
    watch, life = watched(counts, refusals), Life()
    watch.world.deliver_at_once(watch.world.dispatcher(life), owners=list(counts))
    return life.taken


COUNTS = {"a": 5, "b": 2}
REFUSALS = {2: 1, 4: 9, 6: 2}


@pytest.mark.parametrize("in_effect", [True, False], ids=["after the step", "before the step"])
@pytest.mark.parametrize("others", [0, 1, 2])
def test_a_worker_may_be_killed_at_any_step(others: int, in_effect: bool) -> None:
    steps = steps_of_a_life(COUNTS, REFUSALS)
    assert steps > 25
    for step in range(1, steps + 1):
        watch = watched(COUNTS, REFUSALS)
        killed = watch.world.dispatcher(Life(step, in_effect))
        ends = watch.world.deliver_at_once(
            killed, *(watch.world.dispatcher() for _ in range(others)), owners=list(COUNTS)
        )
        assert all(isinstance(end, KilledError) for end in ends[:1]) or others, "it was killed"
        assert not any(isinstance(end, BaseException) for end in ends[1:])
        watch.finish(list(COUNTS))
        watch.check(list(COUNTS))
        assert watch.settled == {
            f"evt_{number:012d}": "failed" if number == 4 else "delivered" for number in range(1, 8)
        }


LIVES = st.lists(
    st.tuples(st.none() | st.integers(1, 40), st.booleans(), st.floats(-2, 2), st.none() | st.integers(1, 40)),
    min_size=1,
    max_size=3,
)
"""Of each worker: steps until it is killed, whether the last takes effect, how far its clock is ahead, and the step at
which it is held up for longer than its lease."""


@settings(max_examples=200)
@given(
    counts=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 8), min_size=1),
    refusals=st.dictionaries(st.integers(1, 24), st.integers(1, 4), max_size=5),
    lives=LIVES,
    latency=st.sampled_from([0.0, 0.05, 3.0, 9.0]),
    late_from=st.none() | st.integers(1, 20),
    max_attempts=st.integers(1, MAX_ATTEMPTS),
)
def test_whatever_happens_to_workers_every_event_ends_and_in_order(
    counts: dict[str, int],
    refusals: dict[int, int],
    lives: Any,
    latency: float,
    late_from: int | None,
    max_attempts: int,
) -> None:
    watch = watched(counts, refusals, latency, max_attempts)
    watch.held_up = any(held_up_at for _, _, _, held_up_at in lives)
    world = watch.world
    all_steps = itertools.count(1)

    def dispatcher_of(steps: int | None, in_effect: bool, ahead: float, held_up_at: int | None) -> Any:
        def on_step(number: int) -> None:
            if next(all_steps) == late_from:
                world.tables.be_late()
            if number == held_up_at:
                world.pass_time(LEASE_SECONDS + 2 * SKEW_SECONDS)

        return world.dispatcher(Life(steps, in_effect, on_step), clock_ahead=ahead)

    ends = world.deliver_at_once(*(dispatcher_of(*life) for life in lives), owners=list(counts))
    assert all(isinstance(end, KilledError) for end in ends if isinstance(end, BaseException))
    watch.finish(list(counts))
    watch.check(list(counts))
