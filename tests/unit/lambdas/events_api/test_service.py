from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.events_api.errors import (
    EventIdTakenError,
    IdempotencyKeyReusedError,
    NoSuchEventError,
    QueueUnavailableError,
    StoreUnavailableError,
)
from lambdas.events_api.lanes import lane_key
from lambdas.events_api.models import Event, NewEvent, Status, content_digest, id_for_key, is_event_id, random_id
from lambdas.events_api.requests import read_events_query, read_inbox_query
from lambdas.events_api.service import Events
from lambdas.events_api.store import IdSecret
from tests.worlds.events import MemoryEvents, MemoryQueue, at_once
from tests.worlds.tokens import FakeSecret

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
OWNER, OTHER = "owner-1", "owner-2"
SECRET = "s" * 64


class World:
    """The events of owners on a store in memory; each look at the clock is a millisecond later."""

    def __init__(self) -> None:
        self.store = MemoryEvents()
        self.queue = MemoryQueue()
        self.now = NOW
        self.events = self.events_with(FakeSecret(SECRET, name="ids"))

    def events_with(self, secret: FakeSecret, **options: Any) -> Events:
        ids = IdSecret(secret, "ids")
        return Events(self.store, self.queue, ids, **{"clock": self.clock, **options})

    def clock(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


@pytest.fixture
def world() -> World:
    return World()


def new(**changes: Any) -> NewEvent:
    values = {"event_type": "order.created", "payload": '{"total":12.50}', "metadata": None, "idempotency_key": None}
    return NewEvent.model_construct(**(values | changes))


def test_event_is_kept_first_and_then_the_delivery_is_woken(world: World) -> None:
    pending = world.events.post(OWNER, new(metadata='{"a":1}', idempotency_key="k"))
    event = pending.event
    assert (pending.created, pending.not_woken) == (True, None)
    assert event == Event(
        event_id=id_for_key(OWNER, "k", secret=SECRET.encode()),
        owner=OWNER,
        event_type="order.created",
        payload='{"total":12.50}',
        metadata='{"a":1}',
        idempotency_key="k",
        status=Status.PENDING,
        created_at="2026-03-02T09:30:00.001Z",
        next_attempt_at="2026-03-02T09:30:00.001Z",
        content_digest=content_digest(new(metadata='{"a":1}')),
    )
    assert world.store.events == {event.event_id: event}
    assert world.queue.woken == [event.event_id]


def test_what_is_not_kept_wakes_nobody(world: World) -> None:
    world.store.fail(StoreUnavailableError("ThrottlingException", worth_repeating=True))
    with pytest.raises(StoreUnavailableError):
        world.events.post(OWNER, new())
    assert world.queue.woken == []


def test_event_is_posted_though_the_delivery_sleeps_on(world: World) -> None:
    world.queue.failure = QueueUnavailableError("ReadTimeoutError")
    pending = world.events.post(OWNER, new())
    assert (pending.created, pending.not_woken) == (True, "ReadTimeoutError")
    assert world.events.get(OWNER, pending.event.event_id) == pending.event


def test_same_key_and_content_again_is_the_first_event(world: World) -> None:
    content = {"payload": '{"a":1.0,"b":[{"c":2,"d":null}]}', "metadata": '{"e":"x","f":{}}'}
    in_other_order = {"payload": '{"b":[{"d":null,"c":2}],"a":1.0}', "metadata": '{"f":{},"e":"x"}'}
    first = world.events.post(OWNER, new(idempotency_key="k", **content))
    for repeated in (content, in_other_order):
        again = world.events.post(OWNER, new(idempotency_key="k", **repeated))
        assert (again.event, again.created) == (first.event, False)
    assert len(world.store.events) == 1
    # The first call may have died before it woke the delivery.
    assert world.queue.woken == [first.event.event_id] * 3


@pytest.mark.parametrize(
    "other",
    [
        {"event_type": "other"},
        {"payload": '{"total":12.5}'},
        {"payload": '{"total":"12.50"}'},
        {"payload": '{"total":12.50,"more":null}'},
        {"metadata": "{}"},
        {"metadata": '{"a":1}'},
    ],
    ids=str,
)
def test_same_key_with_another_content_is_refused_and_changes_nothing(world: World, other: dict[str, str]) -> None:
    first = world.events.post(OWNER, new(idempotency_key="k")).event
    with pytest.raises(IdempotencyKeyReusedError) as caught:
        world.events.post(OWNER, new(idempotency_key="k", **other))
    assert (caught.value.status, caught.value.code) == (409, "idempotency_key_reused")
    assert world.store.events == {first.event_id: first}
    assert world.queue.woken == [first.event_id]


def test_same_key_of_an_event_from_before_there_were_digests_is_that_event(world: World) -> None:
    first = world.events.post(OWNER, new(idempotency_key="k")).event
    world.store.change(first.event_id, content_digest=None)
    again = world.events.post(OWNER, new(idempotency_key="k", payload='{"other":1}'))
    assert (again.event.event_id, again.event.payload, again.created) == (first.event_id, first.payload, False)


def test_of_two_contents_with_one_key_at_once_one_is_stored_and_the_other_refused(world: World) -> None:
    def post(number: int) -> int:
        try:
            return int(world.events.post(OWNER, new(idempotency_key="k", payload=f'{{"n":{number}}}')).created)
        except IdempotencyKeyReusedError:
            return -1

    assert sorted(at_once(post)) == [-1] * 7 + [1]
    assert len(world.store.events) == 1


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.PENDING])
def test_same_key_of_an_event_that_is_through_wakes_nobody(world: World, status: Status) -> None:
    event = world.events.post(OWNER, new(idempotency_key="k")).event
    world.store.change(event.event_id, status=status)
    assert world.events.post(OWNER, new(idempotency_key="k")).event.status is status
    assert len(world.queue.woken) == 1


def test_same_post_several_times_at_once_is_one_event(world: World) -> None:
    answers = at_once(lambda _: world.events.post(OWNER, new(idempotency_key="k")))
    (event,) = world.store.events.values()
    assert [answer.event for answer in answers] == [event] * len(answers)
    assert [answer.created for answer in answers].count(True) == 1


def test_same_key_of_two_owners_is_two_events(world: World) -> None:
    one, two = (world.events.post(owner, new(idempotency_key="k")) for owner in (OWNER, OTHER))
    assert one.created
    assert two.created
    assert one.event.event_id != two.event.event_id


def test_same_post_without_a_key_is_another_event(world: World) -> None:
    assert at_once(lambda _: world.events.post(OWNER, new()).created) == [True] * 8
    assert len(world.store.events) == 8


def test_key_is_free_again_when_its_event_was_deleted(world: World) -> None:
    first = world.events.post(OWNER, new(idempotency_key="k")).event
    world.events.delete(OWNER, first.event_id)
    again = world.events.post(OWNER, new(idempotency_key="k", payload='{"other":1}'))
    assert again.created
    assert again.event.payload == '{"other":1}'


def test_random_id_that_is_taken_is_drawn_again(world: World) -> None:
    ids = iter(["evt_aaaaaaaaaaaa", "evt_aaaaaaaaaaaa", "evt_bbbbbbbbbbbb"])
    events = world.events_with(FakeSecret(), draw_id=lambda: next(ids))
    assert events.post(OWNER, new()).event.event_id == "evt_aaaaaaaaaaaa"
    assert events.post(OTHER, new()).event.event_id == "evt_bbbbbbbbbbbb"


def test_without_a_free_id_nothing_is_overwritten(world: World) -> None:
    events = world.events_with(FakeSecret(), draw_id=lambda: "evt_aaaaaaaaaaaa")
    first = events.post(OWNER, new()).event
    with pytest.raises(EventIdTakenError):
        events.post(OTHER, new())
    assert world.store.events == {first.event_id: first}


@pytest.mark.parametrize(("owner", "key"), [(OTHER, "k"), (OWNER, "other"), (OWNER, None)])
def test_key_whose_id_another_event_has_by_chance_is_refused_and_shows_nothing_of_it(
    world: World, owner: str, key: str | None
) -> None:
    event = world.events.post(OWNER, new(idempotency_key="k")).event
    world.store.change(event.event_id, owner=owner, idempotency_key=key)
    before = world.store.events
    with pytest.raises(EventIdTakenError) as caught:
        world.events.post(OWNER, new(idempotency_key="k"))
    assert "evt_" not in str(caught.value)
    assert world.store.events == before


@pytest.mark.parametrize("lane", [False, True])
def test_event_that_was_stored_under_another_secret_or_none_is_found_by_its_key(world: World, lane: bool) -> None:
    """The ids of the version before, which needed no secret; or the stack was deleted, and made another secret."""
    if lane:
        world.store.table.items[lane_key(OWNER)] = {"event_id": {"S": lane_key(OWNER)}, "version": {"N": "1"}}
    posted = world.events.post(OWNER, new(idempotency_key="order-A-1")).event
    world.events.delete(OWNER, posted.event_id)
    before = replace(posted, event_id="evt_s7i3bjzljaea")
    assert world.store.put(before) is None
    for number in range(3):
        events = world.events_with(FakeSecret(str(number) * 64, name="ids"))
        again = events.post(OWNER, new(idempotency_key="order-A-1"))
        assert (again.event, again.created) == (before, False)
        with pytest.raises(IdempotencyKeyReusedError):
            events.post(OWNER, new(idempotency_key="order-A-1", payload='{"other":1}'))
    assert list(world.store.events) == [before.event_id]
    world.events.delete(OWNER, before.event_id)
    assert world.events.post(OWNER, new(idempotency_key="order-A-1")).created, "the key is free again"


def test_event_that_the_index_does_not_show_yet_is_found_by_its_id(world: World) -> None:
    first = world.events.post(OWNER, new(idempotency_key="k"))
    world.store.of_key = lambda owner, key: None
    again = world.events.post(OWNER, new(idempotency_key="k"))
    assert (again.event, again.created) == (first.event, False)


def test_event_that_the_index_still_shows_but_is_gone_frees_its_key(world: World) -> None:
    first = world.events.post(OWNER, new(idempotency_key="k"))
    world.store.table.after["query"] = lambda: world.store.table.items.pop(first.event.event_id, None) and None
    assert world.events.post(OWNER, new(idempotency_key="k", payload='{"other":1}')).created


def test_replay_wakes_the_delivery(world: World) -> None:
    event = world.events.post(OWNER, new()).event
    world.store.change(event.event_id, status=Status.FAILED, next_attempt_at=None)
    pending = world.events.replay(OWNER, event.event_id)
    assert (pending.event.status, pending.created, pending.not_woken) == (Status.PENDING, False, None)
    assert pending.event.position == event.position
    assert world.queue.woken == [event.event_id] * 2
    world.queue.failure = QueueUnavailableError("AccessDenied")
    assert world.events.replay(OWNER, event.event_id).not_woken == "AccessDenied"


@pytest.mark.parametrize(
    "event_id",
    [
        *("", "evt_", "x" * 9999, "evt_0123456789a", "evt_0123456789abc", "evt_ABCDEFGHIJKL", "EVT_0123456789ab"),
        *("evt_0123456789aż", "evt_٠123456789ab", "evt_0123456789ab\n", " evt_0123456789ab"),
    ],
    ids=lambda event_id: event_id[:20],
)
def test_what_is_no_id_is_not_asked_for(world: World, event_id: str) -> None:
    world.store.fail(AssertionError("the table was asked"))
    actions = (world.events.get, world.events.acknowledge, world.events.replay, world.events.delete)
    for action in actions:
        with pytest.raises(NoSuchEventError):
            action(OWNER, event_id)


def walk(events: Events, owner: str, *, inbox: bool, limit: int) -> Iterator[Event]:
    read = read_inbox_query if inbox else read_events_query
    parameters = {"limit": str(limit)}
    while True:
        page, cursor = events.page(owner, read(parameters, owner))
        yield from page
        if cursor is None:
            return
        parameters["cursor"] = cursor


@given(
    st.lists(
        st.tuples(
            st.sampled_from([OWNER, OTHER]),
            st.sampled_from(["post", "post", "acknowledge", "replay", "delete"]),
            st.integers(0, 5),
        ),
        max_size=30,
    ),
    st.integers(1, 4),
)
def test_owners_see_all_of_their_events_and_nothing_of_others(steps: list[tuple[str, str, int]], limit: int) -> None:
    world = World()
    posted: list[Event] = []
    expected: dict[str, dict[str, bool]] = {OWNER: {}, OTHER: {}}
    for owner, step, number in steps:
        if step == "post":
            event = world.events.post(owner, new()).event
            posted.append(event)
            expected[owner][event.event_id] = True
            continue
        event_id = posted[number % len(posted)].event_id if posted else random_id()
        known = expected[owner]
        try:
            getattr(world.events, step)(owner, event_id)
        except NoSuchEventError:
            assert event_id not in known
            continue
        assert event_id in known
        if step == "delete":
            del known[event_id]
        else:
            known[event_id] = step == "replay"
    for owner, known in expected.items():
        newest = [event.event_id for event in walk(world.events, owner, inbox=False, limit=limit)]
        assert newest == list(known)[::-1]
        inbox = [event.event_id for event in walk(world.events, owner, inbox=True, limit=limit)]
        assert inbox == [event_id for event_id, pending in known.items() if pending]


def test_ids_have_their_form_and_differ() -> None:
    drawn = {random_id() for _ in range(1_000)}
    assert len(drawn) == 1_000
    assert all(map(is_event_id, drawn))


@given(st.text(min_size=1), st.text(min_size=1), st.binary(min_size=1))
def test_every_key_has_an_id(owner: str, key: str, secret: bytes) -> None:
    owner, key = (text.encode(errors="replace").decode() for text in (owner, key))
    assert is_event_id(id_for_key(owner, key, secret=secret))


def test_id_of_a_key_is_known_with_the_secret_alone_and_does_not_change_with_the_code() -> None:
    """Posts at the same instant may meet two versions of the function."""
    assert id_for_key("owner-1", "order-A-1", secret=b"s" * 64) == "evt_jdp5xt7pisly"
    assert id_for_key("owner-1o", "rder-A-1", secret=b"s" * 64) != id_for_key("owner-1", "order-A-1", secret=b"s" * 64)
    assert id_for_key("owner-1", "order-A-1", secret=b"t" * 64) != id_for_key("owner-1", "order-A-1", secret=b"s" * 64)
