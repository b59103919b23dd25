from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ReadTimeoutError

from lambdas.events_api.errors import NoSuchEventError, StoreUnavailableError
from lambdas.events_api.lanes import PAYLOAD_APART, lane_key
from lambdas.events_api.models import Event, Status
from lambdas.events_api.store import (
    INBOX,
    MAX_ITEM_BYTES,
    MAX_PAGE_BYTES,
    EventStore,
    Listing,
    Query,
    dynamodb_client,
    secrets_client,
    sqs_client,
)
from tests.worlds.dynamodb import EVENT_INDEXES, FakeTable, Fault, Lose, Repeat, table_error
from tests.worlds.events import LATER, EventStoreContract, new_event, walk

TIMED_OUT = ReadTimeoutError(endpoint_url="https://dynamodb.invalid")
CONFLICT = table_error("TransactionCanceledException", CancellationReasons=[{"Code": "TransactionConflict"}])
OWNER = "owner-1"


def table_with(*faults: Fault) -> FakeTable:
    return FakeTable("events", "event_id", indexes=EVENT_INDEXES, faults=faults)


def store_on(table: FakeTable, name: str = "events") -> EventStore:
    return EventStore(table, name)


def add_lane(table: FakeTable, owner: str = OWNER) -> None:
    numbers = {"version": {"N": "1"}, "event_form": {"N": str(PAYLOAD_APART)}}
    table.items[lane_key(owner)] = {"event_id": {"S": lane_key(owner)}, **numbers}


def large_event(**changes: Any) -> Event:
    return new_event(OWNER, payload=f'{{"note":"{2000 * "x"}"}}', **changes)


class TestOnATable(EventStoreContract):
    @pytest.fixture
    def store(self) -> EventStore:
        return store_on(table_with())


class TestOnATableWithLanes(EventStoreContract):
    """What an owner sees is the same."""

    @pytest.fixture
    def store(self, owner: str) -> EventStore:
        table = table_with()
        add_lane(table, owner)
        return store_on(table)


Call = Callable[[EventStore], object]
CALLS: dict[str, Call] = {
    "put": lambda store: store.put(new_event(OWNER)),
    "get": lambda store: store.get(OWNER, "evt_000000000000"),
    "page": lambda store: store.page(OWNER, Query(INBOX, None, 1)),
    "acknowledge": lambda store: store.acknowledge(OWNER, "evt_000000000000", LATER),
    "replay": lambda store: store.replay(OWNER, "evt_000000000000", LATER),
    "delete": lambda store: store.delete(OWNER, "evt_000000000000"),
    "of_key": lambda store: store.of_key(OWNER, "k"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize(
    ("failure", "reason", "worth_repeating"),
    [
        (table_error("ThrottlingException"), "ThrottlingException", True),
        (table_error("ProvisionedThroughputExceededException"), "ProvisionedThroughputExceededException", True),
        (table_error("InternalServerError"), "InternalServerError", True),
        (CONFLICT, "TransactionCanceledException", True),
        (table_error("TransactionConflictException"), "TransactionConflictException", True),
        (TIMED_OUT, "ReadTimeoutError", True),
        (EndpointConnectionError(endpoint_url="https://dynamodb.invalid"), "EndpointConnectionError", True),
        (table_error("AccessDeniedException"), "AccessDeniedException", False),
        (table_error("ResourceNotFoundException"), "ResourceNotFoundException", False),
        (NoCredentialsError(), "NoCredentialsError", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_table_that_does_not_do_it_is_named_as_such(
    call: Call, failure: Exception, reason: str, worth_repeating: bool
) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        call(store_on(table_with(failure)))
    assert (caught.value.reasons, caught.value.worth_repeating) == ((reason,), worth_repeating)
    assert reason not in str(caught.value)


def test_table_of_another_name_is_not_there() -> None:
    with pytest.raises(StoreUnavailableError):
        store_on(table_with(), "other").get(OWNER, "evt_000000000000")


def test_put_whose_answer_got_lost_is_known_as_our_own() -> None:
    """Else an event without an idempotency key would be stored twice."""
    table = table_with(None, Repeat())
    event = new_event(OWNER)
    assert store_on(table).put(event) is None
    assert list(table.items) == [lane_key(OWNER), event.event_id]


def test_put_that_nobody_repeats_is_reported() -> None:
    table = table_with(None, Lose(TIMED_OUT))
    with pytest.raises(StoreUnavailableError):
        store_on(table).put(new_event(OWNER))
    assert len(table.items) == 2, "the lane and the event"


def test_changes_may_be_repeated_by_the_client() -> None:
    for change in ("acknowledge", "replay", "delete"):
        store = store_on(table_with(None, None, None, Repeat()))
        store.put(new_event(OWNER, event_id="evt_000000000000"))
        CALLS[change](store)


def test_item_has_the_attributes_of_the_indexes() -> None:
    table = table_with()
    store = store_on(table)
    event = new_event(OWNER)
    store.put(event)
    item = table.items[event.event_id]
    assert item["owner_status"] == {"S": "owner-1#pending"}
    assert item["position"] == {"S": f"{event.created_at}#{event.event_id}"}
    assert item["next_attempt_at"] == {"S": event.created_at}
    assert "idempotency_key" not in item, "an index has only those that have one"
    store.acknowledge(OWNER, event.event_id, LATER)
    item = table.items[event.event_id]
    assert item["owner_status"] == {"S": "owner-1#acknowledged"}
    assert "next_attempt_at" not in item, "the index of due events has only pending ones"


@pytest.mark.parametrize("change", ["acknowledge", "replay"])
def test_change_takes_the_event_away_from_whoever_delivers_it(change: str) -> None:
    table = table_with()
    store = store_on(table)
    store.put(new_event(OWNER, event_id="evt_000000000000", version=4))
    table.items["evt_000000000000"] |= {"lease_owner": {"S": "run-1"}, "lease_until": {"N": "9999999999"}}
    CALLS[change](store)
    item = table.items["evt_000000000000"]
    assert item["version"] == {"N": "5"}
    assert not {"lease_owner", "lease_until"} & set(item)


def test_large_events_make_short_pages() -> None:
    """DynamoDB stops at a megabyte, and says that there is more."""

    class Stingy(FakeTable):
        def query(self, **request: object) -> dict[str, object]:
            return super().query(**{**request, "Limit": 2})

    store = store_on(Stingy("events", "event_id", indexes=EVENT_INDEXES))
    events = [new_event(OWNER, status=Status.PENDING) for _ in range(3)]
    for event in events:
        store.put(event)
    page = store.page(OWNER, Query(INBOX, None, 50))
    assert (page.events, page.last) == (events[:2], events[1].position)


def test_indexes_copy_no_large_payload_once_a_worker_reads_that_form() -> None:
    table = table_with()
    store = store_on(table)
    before, after = large_event(), large_event(metadata='{"n":1}')
    store.put(before)
    add_lane(table)
    store.put(after)
    assert table.items[before.event_id]["payload"] == {"S": before.payload}, "workers may be of an earlier version"
    item = table.items[after.event_id]
    assert sum(len(name) + len(*value.values()) for name, value in item.items()) < MAX_ITEM_BYTES
    payload = table.items[item["payload_key"]["S"]]
    assert (payload["payload"], payload["metadata"]) == ({"S": after.payload}, {"S": '{"n":1}'})
    assert not {key for keys in EVENT_INDEXES.values() for key in keys} & set(payload), "it is in no index"


def test_payload_goes_with_its_event() -> None:
    table = table_with()
    add_lane(table)
    store = store_on(table)
    event = large_event()
    store.put(event)
    stored = set(table.items)
    store.put(large_event(event_id=event.event_id))
    assert set(table.items) == stored, "one that was not stored leaves none"
    store.delete(OWNER, event.event_id)
    assert set(table.items) == {lane_key(OWNER)}


@pytest.mark.parametrize("fault", [CONFLICT, table_error("ThrottlingException"), Lose(TIMED_OUT)])
@pytest.mark.parametrize("failed_call", [0, 1, 2])
def test_deletion_that_failed_leaves_no_half_of_an_event(failed_call: int, fault: Fault) -> None:
    """It would be due for ever, and a post of its key would be answered as if it were to be delivered."""
    table = table_with()
    add_lane(table)
    store = store_on(table)
    event = large_event(idempotency_key="k")
    store.put(event)
    table.faults = iter([*[None] * failed_call, fault])
    with suppress(StoreUnavailableError):
        store.delete(OWNER, event.event_id)
    table.faults = iter([])
    if store.of_key(OWNER, "k") is not None:
        assert store.get(OWNER, event.event_id) == event
        store.delete(OWNER, event.event_id)
    assert set(table.items) == {lane_key(OWNER)}


@pytest.mark.parametrize("posted_anew", [False, True])
def test_of_two_deletions_at_once_both_are_done_and_what_is_posted_then_stays(posted_anew: bool) -> None:
    table = table_with()
    add_lane(table)
    store, event = store_on(table), large_event()
    anew = replace(event, payload=event.payload.replace("x", "y"), created_at=LATER)
    store.put(event)

    def delete_first() -> None:
        table.before.clear()
        store_on(table).delete(OWNER, event.event_id)
        if posted_anew:
            store_on(table).put(anew)

    table.before["transact_write_items"] = delete_first
    store.delete(OWNER, event.event_id)
    if posted_anew:
        assert store.get(OWNER, event.event_id).payload == anew.payload
    else:
        assert set(table.items) == {lane_key(OWNER)}


def test_event_that_is_deleted_while_it_is_read_is_not_there() -> None:
    table = table_with()
    add_lane(table)
    store = store_on(table)
    kept, gone = large_event(), large_event()
    store.put(kept)
    store.put(gone)
    del table.items[table.items[gone.event_id]["payload_key"]["S"]]
    assert store.page(OWNER, Query(INBOX, None, 9)).events == [kept]
    with pytest.raises(NoSuchEventError):
        store.get(OWNER, gone.event_id)


@pytest.mark.parametrize("listing", [INBOX, replace(INBOX, newest_first=True)])
def test_event_is_listed_once_though_one_of_two_indexes_shows_it_still_as_it_was(listing: Listing) -> None:
    table = table_with()
    add_lane(table)
    store, event = store_on(table), large_event()
    store.put(event)
    was = table.items[event.event_id]
    replayed = store.replay(OWNER, event.event_id, LATER)

    def be_late() -> None:
        if table.calls["query"] == 2:
            table.items[event.event_id] = was

    table.before["query"] = be_late
    (listed,) = store.page(OWNER, Query(listing, None, 9)).events
    assert (listed.event_id, listed.next_attempt_at) == (event.event_id, replayed.next_attempt_at)
    assert table.calls["query"] == 2


@pytest.mark.parametrize("change", ["acknowledge", "replay"])
def test_event_that_is_deleted_while_it_is_changed_is_not_there(change: str) -> None:
    table = table_with()
    store = store_on(table)
    store.put(new_event(OWNER, event_id="evt_000000000000"))

    def delete() -> None:
        table.items.pop("evt_000000000000")

    table.before["update_item"] = delete
    with pytest.raises(NoSuchEventError):
        CALLS[change](store)
    assert set(table.items) == {lane_key(OWNER)}


def test_item_that_was_written_by_hand_is_nobody_s_event() -> None:
    table, event_id = table_with(), "evt_000000000001"
    table.items[event_id] = {"event_id": {"S": event_id}, "status": {"S": "pending"}}
    for call in (store_on(table).get, store_on(table).delete):
        with pytest.raises(NoSuchEventError):
            call(OWNER, event_id)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("listing", [INBOX, replace(INBOX, event_type="order.created")])
def test_large_payloads_make_short_pages_wherever_they_are(listing: Listing, apart: bool) -> None:
    table = table_with()
    table.megabyte = 1000
    if apart:
        add_lane(table)
    store = store_on(table)
    events = [new_event(OWNER, payload=f'{{"note":"{number:0{MAX_PAGE_BYTES * 2 // 5}}"}}') for number in range(5)]
    for event in events:
        store.put(event)
    assert len(store.page(OWNER, Query(listing, None, 9)).events) == 2
    assert list(walk(store, OWNER, listing, 9)) == events


def test_search_ends_when_a_page_is_full() -> None:
    table = table_with()
    store = store_on(table)
    for number in range(20):
        store.put(new_event(OWNER, payload=f'{{"note":"{number:0{MAX_PAGE_BYTES * 2 // 5}}"}}'))
    table.calls.clear()
    store.page(OWNER, Query(replace(INBOX, event_type="order.created"), None, 20))
    assert table.calls["query"] == 1, "of three events"


def test_search_for_a_rare_type_ends_in_time_and_can_be_continued() -> None:
    seconds = iter(range(0, 1000, 2))
    store = EventStore(table_with(), "events", clock=lambda: next(seconds))
    events = [new_event(OWNER, event_type="rare" if number == 0 else "common") for number in range(12)]
    for event in events:
        store.put(event)
    rare = Listing(None, newest_first=True, event_type="rare")
    first = store.page(OWNER, Query(rare, None, 5))
    assert (first.events, first.last) == ([], events[6].position), "two megabytes were read in the time"
    assert list(walk(store, OWNER, rare, 5)) == [events[0]]


def test_clients_give_up_before_the_function_has_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    seconds = 0.0
    for client in (dynamodb_client(), secrets_client(), sqs_client()):
        config = client.meta.config
        tries = config.retries["total_max_attempts"]
        # Before the n-th repetition, botocore waits for at most 2^(n-1) seconds.
        seconds += tries * (config.connect_timeout + config.read_timeout) + 2 ** (tries - 1) - 1
    assert seconds <= 20
