import threading
from collections.abc import Iterable, Sequence
from decimal import Decimal

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from lambdas.orders_api.models import NotStoredError, OrderRecord
from lambdas.orders_api.store import BATCH_RECORDS, BATCHES_AT_ONCE, CALL_SECONDS, OrderStore, dynamodb_client
from tests.worlds.dynamodb import FakeDynamoDB, Fault, Leave, Lose, table_error

TIMED_OUT = ReadTimeoutError(endpoint_url="https://dynamodb.invalid")
TTL = 1_772_443_800


class Time:
    """A clock that only sleeping moves, and calls that say so."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.pauses: list[float] = []
        self._lock = threading.Lock()

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.pauses.append(seconds)
            self.now += seconds


class Hung(FakeDynamoDB):
    """A table whose every call times out after CALL_SECONDS; as many calls as there may be at once pass together."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self._together = threading.Barrier(BATCHES_AT_ONCE, action=lambda: time.sleep(CALL_SECONDS), timeout=60)

    def batch_write_item(self, **request: dict[str, list[object]]) -> dict[str, object]:
        self._together.wait()
        raise TIMED_OUT


def records(number: int) -> list[OrderRecord]:
    return [
        OrderRecord(record_id=f"id-{index}", parameter_1=f"text {index}", parameter_2=Decimal(index) / 10)
        for index in range(number)
    ]


def put(
    table: FakeDynamoDB,
    sent: Sequence[OrderRecord],
    *,
    seconds: float = 20.0,
    time: Time | None = None,
    share: float = 1.0,
) -> None:
    time = time or Time()
    store = OrderStore(table, "orders", clock=time.clock, sleep=time.sleep, share=lambda: share)
    store.put(sent, ttl=TTL, seconds=seconds)


def not_stored(table: FakeDynamoDB, sent: Sequence[OrderRecord], *, seconds: float = 20.0) -> NotStoredError:
    with pytest.raises(NotStoredError) as caught:
        put(table, sent, seconds=seconds)
    return caught.value


def test_item_holds_the_record_exactly_and_its_end() -> None:
    table = FakeDynamoDB()
    put(table, [OrderRecord(record_id="a", parameter_1="Zażółć", parameter_2=Decimal("2.1"))])
    assert table.items == {
        "a": {
            "record_id": {"S": "a"},
            "parameter_1": {"S": "Zażółć"},
            "parameter_2": {"N": "2.1"},
            "ttl": {"N": str(TTL)},
        }
    }


@pytest.mark.parametrize(
    ("number", "batches"), [(1, [1]), (25, [25]), (26, [1, 25]), (51, [1, 25, 25]), (500, [25] * 20)]
)
def test_records_go_in_batches_that_the_table_takes(number: int, batches: list[int]) -> None:
    table = FakeDynamoDB()
    put(table, records(number))
    assert sorted(table.batches) == batches
    assert set(table.items) == {f"id-{index}" for index in range(number)}


def test_batches_are_written_several_at_once() -> None:
    """Each of the first batches waits until as many as agreed are under way; one at a time would wait for ever."""

    class Meeting(FakeDynamoDB):
        barrier = threading.Barrier(BATCHES_AT_ONCE, timeout=60)

        def batch_write_item(self, **request: dict[str, list[object]]) -> dict[str, object]:
            self.barrier.wait()
            return super().batch_write_item(**request)

    table = Meeting()
    put(table, records(BATCH_RECORDS * BATCHES_AT_ONCE))
    assert len(table.items) == BATCH_RECORDS * BATCHES_AT_ONCE


def test_unprocessed_items_are_sent_again_until_there_are_none() -> None:
    table, time = FakeDynamoDB(faults=[Leave(10), Leave(10), Leave(3)]), Time()
    put(table, records(25), time=time)
    assert table.batches == [25, 10, 10, 3]
    assert len(table.items) == 25
    assert time.pauses == [0.05, 0.1, 0.2]


@pytest.mark.parametrize(
    "error",
    [
        table_error("ProvisionedThroughputExceededException"),
        table_error("ThrottlingException"),
        table_error("RequestLimitExceeded"),
        table_error("InternalServerError"),
        table_error("ServiceUnavailable"),
        TIMED_OUT,
        ConnectTimeoutError(endpoint_url="https://dynamodb.invalid"),
        EndpointConnectionError(endpoint_url="https://dynamodb.invalid"),
    ],
    ids=str,
)
def test_passing_error_is_waited_out(error: Exception) -> None:
    table = FakeDynamoDB(faults=[error, error])
    put(table, records(3))
    assert table.batches == [3, 3, 3]
    assert len(table.items) == 3


def test_answer_that_got_lost_is_made_good() -> None:
    table = FakeDynamoDB(faults=[Lose(TIMED_OUT)])
    put(table, records(3))
    assert len(table.items) == 3


def test_delays_double_to_a_limit_and_a_random_share_of_them_is_waited() -> None:
    time = Time()
    put(FakeDynamoDB(faults=[Leave(1)] * 8), records(1), time=time, share=0.5, seconds=100)
    assert time.pauses == [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_what_is_not_stored_when_the_time_is_up_is_named() -> None:
    table = FakeDynamoDB(faults=[Leave(2)] * 100)
    error = not_stored(table, records(5), seconds=3)
    assert (error.stored, error.not_stored, error.reasons) == (3, ("id-3", "id-4"), ("UnprocessedItems",))
    assert error.worth_repeating
    assert "later" in str(error)
    assert set(table.items) == {"id-0", "id-1", "id-2"}


def test_pause_that_would_outlast_the_time_is_not_begun() -> None:
    time = Time()
    with pytest.raises(NotStoredError):
        put(FakeDynamoDB(faults=[Leave(2)] * 100), records(5), time=time, seconds=3)
    assert time.pauses == [0.05, 0.1, 0.2, 0.4, 0.8]


@pytest.mark.parametrize("seconds", [0, -1])
def test_nothing_is_sent_when_there_is_no_time(seconds: float) -> None:
    table = FakeDynamoDB()
    error = not_stored(table, records(2), seconds=seconds)
    assert (error.stored, error.not_stored, error.reasons) == (0, ("id-0", "id-1"), ("OutOfTime",))
    assert error.worth_repeating
    assert table.batches == []


def test_table_that_hangs_does_not_hold_up_500_records_beyond_the_last_call() -> None:
    time = Time()
    with pytest.raises(NotStoredError) as caught:
        put(Hung(time), records(500), time=time, seconds=21, share=0.0)
    assert time.now - 1_000 <= 21 + CALL_SECONDS
    assert len(caught.value.not_stored) == 500
    assert caught.value.reasons == ("OutOfTime", "ReadTimeoutError")


@pytest.mark.parametrize(
    "error",
    [table_error("AccessDeniedException"), table_error("ResourceNotFoundException"), NoCredentialsError()],
    ids=str,
)
def test_error_that_does_not_pass_is_not_tried_again(error: Exception) -> None:
    table = FakeDynamoDB(faults=[error] * 100)
    found = not_stored(table, records(30))
    assert (found.stored, found.worth_repeating) == (0, False)
    assert "later" not in str(found)
    assert len(table.batches) == 2


def test_one_batch_that_fails_leaves_the_others_stored_and_says_which() -> None:
    table = FakeDynamoDB(faults=[table_error("AccessDeniedException")])
    error = not_stored(table, records(60))
    assert error.reasons == ("AccessDeniedException",)
    assert len(error.not_stored) in (10, 25)
    assert error.stored == len(table.items) == 60 - len(error.not_stored)
    assert set(table.items).isdisjoint(error.not_stored)


def test_it_is_not_worth_repeating_what_is_refused_though_another_batch_met_a_busy_table() -> None:
    table = FakeDynamoDB(faults=[table_error("AccessDeniedException"), *[Leave(BATCH_RECORDS)] * 100])
    error = not_stored(table, records(60), seconds=3)
    assert (error.stored, error.reasons) == (0, ("AccessDeniedException", "UnprocessedItems"))
    assert not error.worth_repeating


FAULTS = st.lists(
    st.sampled_from(
        [
            None,
            Leave(1),
            Leave(24),
            Leave(25),
            table_error("ThrottlingException"),
            table_error("AccessDeniedException"),
            TIMED_OUT,
        ]
    ),
    max_size=30,
)


@given(st.integers(1, 110), FAULTS, st.floats(-1, 5))
def test_every_record_is_stored_or_named(number: int, faults: Iterable[Fault], seconds: float) -> None:
    table = FakeDynamoDB(faults=faults)
    stored, named = number, set[str]()
    try:
        put(table, records(number), seconds=seconds)
    except NotStoredError as error:
        stored, named = error.stored, set(error.not_stored)
    assert stored == number - len(named)
    assert set(table.items) == {f"id-{index}" for index in range(number)} - named


@given(FAULTS.map(lambda faults: [Lose(fault) if isinstance(fault, Exception) else fault for fault in faults]))
def test_what_is_said_to_be_stored_is_stored_also_when_answers_get_lost(faults: Iterable[Fault]) -> None:
    table = FakeDynamoDB(faults=faults)
    named: set[str] = set()
    try:
        put(table, records(60), seconds=1)
    except NotStoredError as error:
        named = set(error.not_stored)
    assert {f"id-{index}" for index in range(60)} - named <= set(table.items)


def test_client_tries_once_and_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    config = dynamodb_client().meta.config
    assert config.retries == {"mode": "standard", "total_max_attempts": 1}
    assert config.connect_timeout + config.read_timeout == CALL_SECONDS
    assert config.max_pool_connections == BATCHES_AT_ONCE
