import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from include.call_details.keys import idempotency_key, processing_key
from include.call_details.ledger import LEASE_SECONDS, read_chunks
from include.call_details.models import Chunk, Terms
from include.call_details.planner import Limits, make_plan
from include.call_details.poster import post_chunk, post_files, share_of
from include.call_details.storage import StoredFile
from include.errors import (
    ApiUnavailableError,
    ClaimLostError,
    FileChangedError,
    InvalidInputError,
    PausedError,
    TransientError,
)
from tests.worlds.call_details_run import RUN, RunWorld
from tests.worlds.dynamodb import table_error

BODY = b'{"a":1}\nplain\n[2]\n"x"\n5\n'


@pytest.fixture
def world() -> RunWorld:
    return RunWorld()


def test_chunk_is_posted_as_its_batches(world: RunWorld) -> None:
    file = world.drop(BODY)
    claim, plan = world.plan(file)
    state = world.post(claim, plan)
    assert (state.finished, state.accepted_batches, state.records_accepted) == (True, 3, 5)
    sent = {request.headers["Idempotency-Key"]: json.loads(request.content) for request in world.api.posted}
    assert [sent[idempotency_key(file, number)]["records"] for number in range(3)] == [
        [{"a": 1}, {"data": "plain", "lineNumber": 2}],
        [[2], "x"],
        [5],
    ]


def test_finished_chunk_costs_no_call(world: RunWorld) -> None:
    claim, plan = world.plan(world.drop(BODY))
    first = world.post(claim, plan)
    assert world.post(claim, plan) == first
    assert (len(world.api.posted), len(world.api.login_requests)) == (3, 1)


def test_refused_batch_is_a_dead_letter_and_the_others_go_on(world: RunWorld) -> None:
    file = world.drop(BODY)
    world.api.answers[idempotency_key(file, 1)] = [httpx.Response(422)]
    claim, plan = world.plan(file)
    state = world.post(claim, plan)
    assert (state.accepted_batches, state.dead, state.records_dead) == (2, (1,), 2)
    (message,) = map(json.loads, world.sqs.bodies)
    assert [message[name] for name in ("batch", "first_record", "last_record", "attempts", "last_status")] == [
        *(1, 3, 4, 1, 422)
    ]
    assert world.s3.present("dead-letter/") == ["dead-letter/incoming/ä b+.txt/000001.json"]


def test_permits_are_given_back(world: RunWorld) -> None:
    claim, plan = world.plan(world.drop(BODY))
    world.post(claim, plan)
    (holders,) = [item["holders"] for item in world.table.items.values() if "holders" in item]
    assert holders == {"M": {}}


@pytest.mark.parametrize(
    ("limit", "chunks", "batches", "share"),
    [
        (50, 1, 100, 25),
        (50, 2, 100, 25),
        (50, 3, 100, 17),
        (50, 4, 100, 13),
        (50, 900, 100, 13),
        (50, 1, 3, 3),
        (1, 1, 9, 1),
        (3, 9, 9, 1),
    ],
)
def test_no_chunk_asks_for_more_than_half_of_the_calls(limit: int, chunks: int, batches: int, share: int) -> None:
    world = RunWorld()
    _, plan = world.plan(world.drop(BODY))
    chunk = Chunk(0, 0, 1, 1, batches, 0, batches)
    assert share_of(limit, replace(plan, chunks=(chunk,) * chunks), chunk) == share


def test_as_many_as_are_sent_may_wait_for_their_acknowledgement_and_no_more(world: RunWorld) -> None:
    calls = 5
    claim, plan = world.plan(world.drop(b"1\n" * 100))
    unacknowledged: list[int] = []

    def head() -> None:
        settled = sum(state.settled_batches for state in read_chunks(world.items, claim))
        # Until everything waits for it which may; what is written before the first post is the claim and the permits.
        while 0 < len(world.api.posted) < min(plan.batches, settled + 2 * calls):
            time.sleep(0.001)
        unacknowledged.append(len(world.api.posted) - settled)

    world.table.before["put_item"] = head
    assert asyncio.run(post_chunk(world.posting_context(limit=2 * calls), claim, plan, plan.chunks[0])).finished
    assert world.api.most_in_flight <= calls
    assert max(unacknowledged) == 2 * calls


@pytest.mark.parametrize("begun", [False, True])
def test_file_of_several_chunks_among_small_ones_is_posted_to_its_end(begun: bool, world: RunWorld) -> None:
    claim, whole = world.plan(world.drop(BODY))
    stored, terms = StoredFile(whole.key, whole.etag, whole.size), Terms(2, whole.timestamp)
    plan = make_plan(whole.file, stored, terms, [BODY], limits=Limits(chunk_batches=1))
    assert len(plan.chunks) == 3
    if begun:
        assert world.post(claim, plan, 0).finished
    assert asyncio.run(post_files(world.posting_context(), [(claim, plan)], tasks=1)) == {}
    assert [state.finished for state in read_chunks(world.items, claim)] == [True] * 3
    assert world.api.keys == {idempotency_key(whole.file, number): 1 for number in range(3)}


async def test_one_task_of_small_files_takes_half_of_the_calls_and_leaves_the_rest_to_others(world: RunWorld) -> None:
    claim, plan = world.plan(world.drop(b"1\n" * 24))

    async def until_three() -> None:
        while world.api.login_requests and world.api.most_in_flight < 3:
            await asyncio.sleep(0)
        await asyncio.sleep(0.002)

    world.api.pause = until_three
    assert await post_files(world.posting_context(limit=6), [(claim, plan)], tasks=1) == {}
    assert (len(world.api.posted), world.api.most_in_flight) == (12, 3)


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_file_that_changed_is_not_posted(change: str, world: RunWorld) -> None:
    file = world.drop(BODY)
    claim, plan = world.plan(file)
    if change == "deleted":
        world.s3.delete(processing_key(file))
    else:
        world.s3.drop(processing_key(file), BODY.replace(b"5", b"6"))
    with pytest.raises(FileChangedError):
        world.post(claim, plan)
    assert world.api.posted == []


def test_plan_of_other_batches_is_refused(world: RunWorld) -> None:
    claim, plan = world.plan(world.drop(BODY))
    world.post(claim, plan)
    other = replace(plan, chunks=(replace(plan.chunks[0], batches=2),))
    with pytest.raises(InvalidInputError, match="the plan was replaced"):
        world.post(claim, other)


class Slow:
    """The API answers posts only when it is told; the claim's renewal comes when a test calls for it."""

    def __init__(self, world: RunWorld) -> None:
        self.asked, self.go_on, self.renew = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.renewed: list[float] = []
        self._api = world.api
        self._api.pause = self._pause

    async def sleep(self, seconds: float) -> None:
        self.renewed.append(seconds)
        await self.renew.wait()
        self.renew.clear()

    async def _pause(self) -> None:
        # By the first post, the permits are there: no other reading of the ledger gets in a test's way.
        if self._api.login_requests:
            self.asked.set()
            await self.go_on.wait()


async def test_claim_is_renewed_while_a_chunk_is_posted(world: RunWorld) -> None:
    slow = Slow(world)
    claim, plan = world.plan(world.drop(BODY))
    posting = asyncio.create_task(post_chunk(world.posting_context(sleep=slow.sleep), claim, plan, plan.chunks[0]))
    await slow.asked.wait()
    world.time.now += LEASE_SECONDS * 2 / 3
    writes = world.table.calls["put_item"]
    slow.renew.set()
    while len(slow.renewed) < 2:
        await asyncio.sleep(0)
    assert slow.renewed == [LEASE_SECONDS / 3] * 2
    assert world.table.calls["put_item"] > writes
    world.time.now += LEASE_SECONDS * 2 / 3
    (claimed,) = world.claims.unfinished()
    assert not claimed.lapsed, "the lease would be over if it had not been renewed"
    slow.go_on.set()
    assert (await posting).finished


def test_chunk_whose_claim_is_lost_posts_no_further(world: RunWorld) -> None:
    async def run() -> None:
        slow = Slow(world)
        file = world.drop(BODY)
        claim, plan = world.plan(file)
        posting = asyncio.create_task(
            post_chunk(world.posting_context(sleep=slow.sleep, limit=2), claim, plan, plan.chunks[0])
        )
        await slow.asked.wait()
        world.time.now += LEASE_SECONDS + 1
        world.claim(file, "run-2")
        slow.renew.set()
        with pytest.raises(ClaimLostError, match="another owner has taken over"):
            await posting

    asyncio.run(run())
    assert world.api.posted == []


async def test_small_file_whose_claim_is_lost_costs_no_other_its_posting(world: RunWorld) -> None:
    slow = Slow(world)
    lost, kept = world.drop(BODY), world.drop(BODY, "incoming/other.txt")
    files = [world.plan(file) for file in (lost, kept)]
    posting = asyncio.create_task(post_files(world.posting_context(sleep=slow.sleep), files, tasks=1))
    await slow.asked.wait()
    for _, plan in files:
        world.claims.renew(world.claims.current(plan.file, RUN), pause=LEASE_SECONDS * (plan.file == kept))
    world.time.now += LEASE_SECONDS + 1
    world.claim(lost, "run-2")
    slow.renew.set()
    while len(slow.renewed) < 2:
        await asyncio.sleep(0)
    slow.go_on.set()
    failed = await posting
    assert [(file, type(error)) for file, error in failed.items()] == [(lost, ClaimLostError)]
    (state,) = read_chunks(world.items, files[1][0])
    assert state.finished


async def test_renewal_that_fails_for_a_moment_stops_nothing(world: RunWorld) -> None:
    slow = Slow(world)
    claim, plan = world.plan(world.drop(BODY))
    posting = asyncio.create_task(post_chunk(world.posting_context(sleep=slow.sleep), claim, plan, plan.chunks[0]))
    await slow.asked.wait()

    def fail() -> None:
        del world.table.before["get_item"]
        raise table_error("ThrottlingException")

    world.table.before["get_item"] = fail
    slow.renew.set()
    while len(slow.renewed) < 2 and not posting.done():
        await asyncio.sleep(0)
    slow.go_on.set()
    assert (await posting).finished


def test_chunk_of_an_owner_that_was_taken_over_begins_nothing(world: RunWorld) -> None:
    file = world.drop(BODY)
    claim, plan = world.plan(file)
    world.time.now += LEASE_SECONDS + 1
    world.claim(file, "run-2")
    with pytest.raises(ClaimLostError):
        world.post(claim, plan)
    assert (world.api.posted, world.api.login_requests) == ([], [])


@pytest.mark.parametrize(("takes_one", "error"), [(False, ApiUnavailableError), (True, PausedError)])
def test_api_that_asks_for_a_long_wait_gets_it_and_no_batch_is_given_up(
    takes_one: bool, error: type[TransientError], world: RunWorld
) -> None:
    file = world.drop(BODY)
    claim, plan = world.plan(file)

    async def ask_to_wait(_: httpx.Request) -> httpx.Response:
        # Until the first one has been answered for long.
        for _ in range(50):
            await asyncio.sleep(0)
        return httpx.Response(503, headers={"Retry-After": "1800"})

    world.api.answers = {idempotency_key(file, number): [ask_to_wait] for number in range(takes_one, plan.batches)}
    with pytest.raises(error) as raised:
        world.post(claim, plan)
    assert raised.value.retry_after == pytest.approx(1800, abs=5), "the retry policy waits as long"
    assert world.sqs.bodies == []
    world.time.now += 1800 + LEASE_SECONDS - 10
    assert [each.lapsed for each in world.claims.unfinished()] == [False], "or another run would take over"
    world.api.answers.clear()
    state = world.post(claim, plan)
    assert (state.accepted_batches, state.dead) == (plan.batches, ())


def test_error_of_the_login_is_seen_as_it_is(world: RunWorld) -> None:
    from include.errors import AuthRefusedError

    claim, plan = world.plan(world.drop(BODY))
    world.api._logins = [httpx.Response(401)]
    with pytest.raises(AuthRefusedError):
        world.post(claim, plan)
    chunk: Any = world.post(claim, plan)
    assert chunk.finished
