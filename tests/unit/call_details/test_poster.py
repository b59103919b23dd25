import asyncio
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.call_details.ledger import read_chunks
from include.call_details.poster import UNAVAILABLE_AFTER
from include.call_details.records import Batch
from include.errors import (
    ApiUnavailableError,
    AuthRefusedError,
    AwsUnavailableError,
    ClaimLostError,
    InvalidInputError,
    PausedError,
    PipelineError,
    StorageUnavailableError,
)
from tests.worlds.call_details import FakeCallDetails
from tests.worlds.call_details_run import CLAIM, PostingWorld, some_batch
from tests.worlds.dynamodb import table_error
from tests.worlds.s3 import raising, s3_error

REFUSED = httpx.Response(422)


@pytest.fixture
def world() -> PostingWorld:
    return PostingWorld()


def batches(number: int) -> list[Batch]:
    return [some_batch(each) for each in range(number)]


async def until_in_flight(world: PostingWorld, number: int) -> None:
    """Wait until so many were under way at once, and a while longer, in which there may not be more."""
    while world.api.login_requests and world.api.most_in_flight < number:
        await asyncio.sleep(0)
    await asyncio.sleep(0.002)


def test_every_batch_is_posted_once_and_acknowledged(world: PostingWorld) -> None:
    state = world.post(batches(23), size=23)
    assert world.api.keys == {str(number): 1 for number in range(23)}
    assert {request.content for request in world.api.posted} == {batch.body for batch in batches(23)}
    assert state.finished
    assert (state.accepted_batches, state.records_accepted, state.dead) == (23, 230, ())
    assert (state.logins, state.retries) == (1, 0)
    assert world.open(23).state == state


def test_no_more_are_under_way_than_there_are_workers(world: PostingWorld) -> None:
    world.api.pause = partial(until_in_flight, world, 5)
    world.post(batches(40), size=40, workers=5)
    assert world.api.most_in_flight == 5


@pytest.mark.parametrize(("max_bytes", "at_once"), [(44, 2), (29, 1), (1, 1)])
def test_no_more_bytes_are_under_way_than_there_is_memory(max_bytes: int, at_once: int, world: PostingWorld) -> None:
    assert len(some_batch(0).body) == 15

    async def answer(_: httpx.Request) -> httpx.Response:
        await until_in_flight(world, at_once)
        return httpx.Response(200)

    world.api.answers = {str(number): [answer] for number in range(10)}
    assert world.post(batches(10), size=10, workers=6, max_bytes=max_bytes).finished
    assert world.api.most_in_flight == at_once


def test_no_more_are_read_than_can_be_posted(world: PostingWorld) -> None:
    read = 0

    def reading() -> Iterator[Batch]:
        nonlocal read
        for batch in batches(200):
            read += 1
            # Those under way, those read ahead, and the one that waits for its place.
            assert read - len(world.api.posted) <= 2 * 3 + 1
            yield batch

    world.post(reading(), size=200, workers=3)
    assert read == 200


def test_large_bodies_are_read_one_at_a_time(world: PostingWorld) -> None:
    """Small ones are read several at once, which would take memory that nobody has counted."""
    megabyte, allowed = 1024 * 1024, 3
    most_ahead = read = 0

    def reading() -> Iterator[Batch]:
        nonlocal most_ahead, read
        for number in range(30):
            read += 1
            settled = sum(state.settled_batches for state in read_chunks(world.items, CLAIM))
            most_ahead = max(most_ahead, read - settled)
            yield some_batch(number, padding=megabyte)

    assert world.post(reading(), size=30, workers=40, max_bytes=allowed * (megabyte + 100)).finished
    # Those under way, and the one that waits for its place.
    assert most_ahead == allowed + 1


def test_reading_does_not_hold_up_the_posting(world: PostingWorld) -> None:
    first_was_posted = threading.Event()

    async def note() -> None:
        first_was_posted.set()

    world.api.pause = note

    def reading() -> Iterator[Batch]:
        yield some_batch(0)
        assert first_was_posted.wait(60), "nothing is posted while the next batch is read"
        yield some_batch(1)

    assert world.post(reading(), size=2).finished


def test_one_thread_reads_all_batches() -> None:
    """The memory that reading has freed stays with the thread that read."""
    world = PostingWorld(FakeCallDetails(answers={str(number): [REFUSED] for number in range(100)}))
    readers = set[int]()

    def reading() -> Iterator[Batch]:
        for batch in batches(100):
            readers.add(threading.get_ident())
            yield batch

    assert len(world.post(reading(), size=100, workers=20).dead) == 100
    assert len(readers) == 1


def test_acknowledgements_that_come_together_are_written_together(world: PostingWorld) -> None:
    def write() -> None:
        settled = sum(state.settled_batches for state in read_chunks(world.items, CLAIM))
        # Until every worker waits for its acknowledgement; the first writing opens the chunk.
        while 0 < len(world.api.posted) < min(100, settled + 20):
            time.sleep(0.001)

    world.table.before["put_item"] = write
    world.post(batches(100), size=100, workers=20)
    assert world.table.calls["put_item"] <= 35


def test_batch_that_cannot_be_delivered_becomes_a_dead_letter_and_the_others_go_on() -> None:
    world = PostingWorld(
        FakeCallDetails(
            answers={"3": [REFUSED], "7": [httpx.Response(500)], "8": [httpx.Response(500), httpx.Response(200)]}
        )
    )
    state = world.post(batches(10), size=10)
    assert state.finished
    assert (state.accepted_batches, sorted(state.dead)) == (8, [3, 7])
    assert (state.records_accepted, state.records_dead, state.retries) == (80, 20, 3)
    assert len(world.sqs.bodies) == 2


def test_resumed_chunk_posts_only_what_is_not_settled() -> None:
    world = PostingWorld(FakeCallDetails(answers={"2": [REFUSED]}))
    world.post(batches(6), size=10)
    state = world.post(batches(10), size=10)
    assert world.api.keys == {str(number): 1 for number in range(10)}
    assert (state.finished, state.accepted_batches, state.dead, state.logins) == (True, 9, (2,), 2)
    world.post(batches(10), size=10)
    assert len(world.api.posted) == 10
    assert len(world.api.login_requests) == 2, "nothing to post, nobody to log in"


def test_batch_is_settled_only_when_the_ledger_has_it(world: PostingWorld) -> None:
    """A worker does not take the next batch while its acknowledgement is not written."""
    posted_unacknowledged = []

    def head() -> None:
        settled = sum(state.settled_batches for state in read_chunks(world.items, CLAIM))
        posted_unacknowledged.append(len(world.api.posted) - settled)

    world.table.before["put_item"] = head
    world.post(batches(60), size=60, workers=4)
    assert max(posted_unacknowledged) <= 4


@settings(max_examples=40)
@given(kill_at=st.integers(1, 30), workers=st.integers(1, 6))
def test_task_that_dies_repeats_at_most_what_was_in_flight_under_the_same_keys(kill_at: int, workers: int) -> None:
    world = PostingWorld()
    writes = 0

    def die() -> None:
        nonlocal writes
        writes += 1
        if writes == kill_at:
            raise table_error("InternalServerError", 500)

    world.table.before["put_item"] = die
    try:
        world.post(batches(30), size=30, workers=workers)
    except AwsUnavailableError:
        world.table.before.clear()
        assert world.post(batches(30), size=30, workers=workers).records_accepted == 300
    assert set(world.api.keys) == {str(number) for number in range(30)}
    assert len(world.api.posted) - 30 <= workers


def test_attempt_that_was_replaced_stops(world: PostingWorld) -> None:
    posts = posts_then = 0

    async def replace() -> None:
        nonlocal posts, posts_then
        posts += 1
        if posts == 6:
            await asyncio.to_thread(world.open, 50)
            posts_then = posts

    world.api.pause = replace
    with pytest.raises(ClaimLostError):
        world.post(batches(50), size=50, workers=2)
    assert 6 <= posts_then <= posts <= posts_then + 2, "what was under way, and no more"


@pytest.mark.parametrize("workers", [1, 5])
def test_refused_login_fails_the_task_and_buries_nothing(workers: int) -> None:
    world = PostingWorld(FakeCallDetails(logins=[httpx.Response(403)]))
    with pytest.raises(AuthRefusedError):
        world.post(batches(20), size=20, workers=workers)
    assert world.sqs.bodies == []
    assert len(world.api.login_requests) == 1
    state = world.open(20).state
    assert (state.settled_batches, state.logins) == (0, 1)


def test_logins_that_cannot_be_counted_do_not_hide_why_the_posting_failed() -> None:
    world = PostingWorld(FakeCallDetails(logins=[httpx.Response(403)]))

    def fail_after_the_opening() -> None:
        if world.table.calls["put_item"] > 1:
            raise table_error("RequestThrottled")

    world.table.before["put_item"] = fail_after_the_opening
    with pytest.raises(AuthRefusedError):
        world.post(batches(20), size=20)
    assert world.table.calls["put_item"] == 2


@pytest.mark.parametrize(("where", "error"), [("s3", StorageUnavailableError), ("sqs", AwsUnavailableError)])
def test_dead_letter_that_cannot_be_kept_is_not_settled(where: str, error: type[PipelineError]) -> None:
    world = PostingWorld(FakeCallDetails(answers={"1": [REFUSED]}))
    if where == "s3":
        world.s3.before["PutObject"] = raising(s3_error("SlowDown"))
    else:
        world.sqs.before["send_message"] = raising(table_error("RequestThrottled"))
    with pytest.raises(error):
        world.post(batches(2), size=2, workers=1)
    assert not world.open(2).state.is_settled(1)
    world.s3.before.clear()
    world.sqs.before.clear()
    assert world.post(batches(2), size=2).dead == (1,)
    assert world.api.keys == {"0": 1, "1": 2}


def test_what_was_posted_before_a_failure_is_acknowledged(world: PostingWorld) -> None:
    def reading() -> Iterator[Batch]:
        yield from batches(5)
        while len(world.api.posted) < 5 or world.api.in_flight:
            time.sleep(0.001)
        raise InvalidInputError("the file has changed")

    with pytest.raises(InvalidInputError):
        world.post(reading(), size=9, workers=5)
    assert world.open(9).state.settled_batches == len(world.api.posted)


DOWN = httpx.Response(503)


def test_api_that_fails_every_batch_is_unavailable_and_makes_no_dead_letters() -> None:
    world = PostingWorld(FakeCallDetails(answers={str(number): [DOWN] for number in range(200)}))
    with pytest.raises(ApiUnavailableError, match="10 batches in a row were not accepted, the last one for 503"):
        world.post(batches(200), size=200)
    assert (world.open(200).state.settled_batches, world.sqs.bodies, world.s3.keys()) == (0, [], [])
    assert len(world.api.keys) < 200, "most are not even tried"
    world.api.answers.clear()
    state = world.post(batches(200), size=200)
    assert (state.accepted_batches, state.dead) == (200, ())


def test_posts_of_batches_that_are_left_to_a_later_try_are_retries_too() -> None:
    world = PostingWorld(FakeCallDetails(answers={str(number): [DOWN] for number in range(20)}))
    with pytest.raises(ApiUnavailableError):
        world.post(batches(20), size=20, workers=1)
    asks_to_wait = httpx.Response(429, headers={"Retry-After": "3600"})
    world.api.answers = {"3": [DOWN, asks_to_wait, httpx.Response(200)]}
    with pytest.raises(PausedError):
        world.post(batches(20), size=20, workers=1)
    state = world.post(batches(20), size=20, workers=1)
    assert (state.accepted_batches, state.dead) == (20, ())
    assert state.retries == len(world.api.posted) - 20
    assert (state.retries, state.logins) == (10 * 3 + 2, 3)


@pytest.mark.parametrize("fault", [httpx.ConnectTimeout("down"), httpx.Response(429), httpx.Response(500)], ids=str)
@pytest.mark.parametrize("workers", [1, 4, 50])
def test_api_that_goes_down_in_mid_chunk_costs_none_of_the_others(fault: Any, workers: int) -> None:
    world = PostingWorld(FakeCallDetails(answers={str(number): [fault] for number in range(100, 200)}))
    with pytest.raises(ApiUnavailableError):
        world.post(batches(200), size=200, workers=workers)
    state = world.open(200).state
    assert (state.dead, world.sqs.bodies) == ((), [])
    # What was under way as the tenth failed may have been accepted and is posted again, under the same key.
    assert 100 - workers <= state.accepted_batches <= 100


def test_bad_batches_between_good_ones_are_dead_letters_however_many() -> None:
    bad = [number for number in range(120) if number % 3]
    world = PostingWorld(FakeCallDetails(answers={str(number): [DOWN] for number in bad}))
    state = world.post(batches(120), size=120, workers=1)
    assert (state.accepted_batches, sorted(state.dead)) == (40, bad)


def test_refused_batches_are_dead_letters_however_many_in_a_row() -> None:
    world = PostingWorld(FakeCallDetails(answers={str(number): [REFUSED] for number in range(50)}))
    state = world.post(batches(50), size=50)
    assert (state.finished, len(state.dead)) == (True, 50)


@pytest.mark.parametrize("number", [1, UNAVAILABLE_AFTER - 1])
def test_last_batches_of_a_chunk_that_fail_are_dead_letters(number: int) -> None:
    world = PostingWorld(FakeCallDetails(answers={str(30 - each): [DOWN] for each in range(1, number + 1)}))
    state = world.post(batches(30), size=30, workers=2)
    assert (state.finished, state.accepted_batches, len(state.dead)) == (True, 30 - number, number)
    assert len(world.sqs.bodies) == number


def test_large_batches_that_fail_are_not_all_kept_in_memory() -> None:
    answers: dict[str, list[Any]] = {str(number): [DOWN] for number in range(1, 6)}
    world = PostingWorld(FakeCallDetails(answers=answers))
    large = (some_batch(number, padding=9 * 1024 * 1024) for number in range(6))
    state = world.post(large, size=6, workers=1, max_bytes=10 * 1024 * 1024)
    assert (state.finished, sorted(state.dead)) == (True, [1, 2, 3, 4, 5])
